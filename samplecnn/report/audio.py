"""The sound behind a report: where its player finds each recording, or the recording itself within the page.

Off unless asked for: a page with sound, or with addresses of it, is less private than one of names and figures.
"""

import base64
import mimetypes
import os
from collections.abc import Sequence
from urllib.parse import quote

from samplecnn.contract import spell_name
from samplecnn.errors import UserError
from samplecnn.report.grading import GradesFolder
from samplecnn.report.settings import EMBED, OFF
from samplecnn.store import open_store

MOST_BYTES = 200_000_000  # within a page; a browser reads it whole before it shows anything


def addresses(folder: GradesFolder, names: Sequence[str], how: str) -> list[str]:
    """The address of each recording for the player of a page in the grades folder.

    how: LINK, relative in a local folder, for a browser that is signed in where it is a bucket; or EMBED: the recording
    as it is now, in the address itself, "" where it is gone. Raises UserError where that would be too much.
    """
    assert folder.state.settings is not None
    root = str(folder.state.settings["recordings"])
    if how == EMBED:
        return _embedded(root, names)
    if root.startswith("gs://"):
        return [f"https://storage.cloud.google.com/{quote(root.removeprefix('gs://'))}/{quote(name)}" for name in names]
    here, spelled = folder.store.root, {spell_name(entry.name): entry.name for entry in open_store(root).list()}
    way = root if here.startswith("gs://") else os.path.relpath(root, here)
    files = [f"{way}/{spelled.get(name, name)}".replace(os.sep, "/") for name in names]
    return [quote(os.fsencode(file)) for file in files]


def media_source(folder: GradesFolder, how: str) -> str:
    """What the page allows its player to load (Content-Security-Policy: media-src)."""
    assert folder.state.settings is not None
    if how == OFF:
        return "'none'"
    if how == EMBED:
        return "data:"
    return "https:" if str(folder.state.settings["recordings"]).startswith("gs://") else "file:"


def _embedded(root: str, names: Sequence[str]) -> list[str]:
    store = open_store(root)
    there = {spell_name(entry.name): entry for entry in store.list()}
    if (total := sum(there[name].size_bytes for name in names if name in there)) > MOST_BYTES:
        raise UserError(
            f"--audio embed: the recordings are {total / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:.0f} MB: "
            "use --audio link"
        )
    found = []
    for name in names:
        kind = mimetypes.guess_type(name)[0] or "audio/mpeg"
        data = store.read(there[name].name).data if name in there else b""
        found.append(f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else "")
    return found
