"""Write docs/licences.md: what the packages that samplecnn needs are licensed under; with --check, only compare.

examples:
  python scripts/write_licences.py
  python scripts/write_licences.py --check

Read from the metadata of the installed packages: those of requirements.txt, and what they need in turn.
"""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from samplecnn.errors import JobError
from samplecnn.flags import Flags, run

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
LONGEST = 120  # some packages keep the text of their licence where its name belongs
HEAD = """# Licences

samplecnn itself is under the Apache License 2.0 ([LICENSE](../LICENSE)). This page is made by
`python scripts/write_licences.py` from what the installed packages say of themselves, on Linux. **bold**: named in
`requirements.txt`; the others are needed by those. A wheel may carry libraries under other licences than its Python
code. That of av carries FFmpeg ({ffmpeg}) and codecs beside it, of which x264 and x265 are under the
GPL: whoever passes the wheel on should know.

| package | version | licence |
|---|---|---|
"""


def page() -> str:
    """The whole of docs/licences.md."""
    direct = dict(map(_named, _lines("requirements.txt")))
    rows = []
    for name in sorted(needed(direct)):
        found = metadata.distribution(name)
        shown = f"**{name}**" if name in direct else name
        rows.append(f"| {shown} | {found.version.partition('+')[0]} | {licence(found.metadata)} |\n")
    return HEAD.format(ffmpeg=ffmpegs_licence()) + "".join(rows)


def needed(direct: dict[str, set[str]]) -> set[str]:
    """The names of these packages, by name with their extras, and of all that they need and constraints.txt pins.

    What is not pinned there depends on the machine: torch for GPUs brings NVIDIA's libraries.
    """
    pinned = {_named(line)[0] for line in _lines("constraints.txt")}
    found: set[str] = set()
    waiting = [(name, extra) for name, extras in direct.items() for extra in ("", *extras)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        if name not in pinned:
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                new = {(canonicalize_name(one.name), also) for also in ("", *one.extras)} - seen
                seen |= new
                waiting += new
    return found


def licence(told: metadata.PackageMetadata) -> str:
    """What a package says its licence is, in its own words."""
    if expression := told.get("License-Expression"):
        return expression
    name = (told.get("License") or "").strip()
    if name and "\n" not in name and len(name) <= LONGEST:
        return name
    classifiers = told.get_all("Classifier") or []
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
    if not names:
        raise JobError(f"{told['Name']} does not say what its licence is: look it up and teach this script")
    return ", ".join(names)


def ffmpegs_licence() -> str:
    """What the FFmpeg says that decodes recordings."""
    from av._core import library_meta

    return " and ".join(sorted({about["license"] for about in library_meta.values()}))


def _lines(file: str) -> list[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.match(r"[A-Za-z]", line)]


def _named(line: str) -> tuple[str, set[str]]:
    requirement = Requirement(line)
    return canonicalize_name(requirement.name), requirement.extras


def main() -> int:
    args = Flags(__doc__).switch("check", "compare with docs/licences.md and write nothing").parse()
    if args.check:
        if PAGE.read_text(encoding="utf-8") != page():
            raise JobError("docs/licences.md is not what is installed: run python scripts/write_licences.py")
    else:
        PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
