"""grade without a grades folder: a few recordings, one after another, told and not kept.

For a person who waits in front of a terminal: no Ray, which takes longer to start than a recording takes to grade. The
grades are those of grade.py bit for bit: the same decoder, the same batches, one thread.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch

from samplecnn import model_folder
from samplecnn.audio import Decoded, Decoder
from samplecnn.contract import DURATION_S, RECORDING, WARNING, cell_key, is_recording_name, spell_name
from samplecnn.errors import RecordingError, UserError
from samplecnn.hearing import Hearing, own_threads
from samplecnn.infer import Grader, RecordingGrade, said_of_piece
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.outcome import Outcome
from samplecnn.segments import activity
from samplecnn.set_pieces import pieces_played
from samplecnn.store import Entry, Store, open_store, store_of_file
from samplecnn.terminal import failed_line, grade_line, heading, width_of


class OneByOne:
    """A model that grades one recording after another in this process; a context manager, for its decoder's child."""

    def __init__(self, card: ModelCard, network: Hearing) -> None:
        own_threads(1)
        self.card = card
        self._grader = Grader(card, network, torch.device("cpu"))
        self._decoder = Decoder(card.settings.sample_rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def grade(self, store: Store, entry: Entry, piece: str | None = None) -> tuple[RecordingGrade, Decoded]:
        """Its grade, and what was decoded. piece: what is played. Raises RecordingError."""
        with store.fetch(entry.name, entry.version, entry.stamp) as path:
            decoded = self._decoder.decode(path)
        return self._grader.grade(decoded.samples_T, activity(decoded.frame_power_F), piece), decoded


def grade_few(recordings: Sequence[str], model: str, tell: Callable[[str], None], pieces: str | None = None) -> Outcome:
    """Grade these files, and the recordings in these folders; tell: takes one line a recording, as it is graded;
    pieces: a table of who plays what, names as they are within their folder.

    Raises UserError for a place that holds none, or is not there, before anything is graded.
    """
    found = [pair for place in recordings for pair in _recordings_of(place)]
    card, network = model_folder.load(model)
    played = pieces_played(pieces, card.pieces)
    names = [spell_name(store.url(entry.name)) for store, entry in found]
    width = width_of(names)
    tell(heading(width))
    graded = failed = 0
    with OneByOne(card, network) as grader:
        for (store, entry), name in zip(found, names, strict=True):
            try:
                piece = played.get(cell_key(spell_name(entry.name)))
                one, decoded = grader.grade(store, entry, piece)
            except RecordingError as error:
                failed += 1
                tell(failed_line(name, str(error), width))
                continue
            graded += one.merged is not None
            warning = "; ".join(filter(None, (*decoded.warnings, said_of_piece(piece, one, card.pieces)))) or None
            told = {RECORDING: name, DURATION_S: decoded.duration_s, WARNING: warning, **one.columns(card)}
            tell(grade_line(told, width))
    done = len(found) - failed
    text = f"{len(found)} recordings: {graded} graded"
    text += f", {done - graded} not gradable" if done > graded else ""
    text += f", {failed} failed" if failed else ""
    return Outcome(done, failed, 0, 0, f"{text} by model {card.model_id}; nothing was written (--grades keeps grades)")


def _recordings_of(place: str) -> Iterator[tuple[Store, Entry]]:
    """The file of this name, or the recordings of the folder; at least one."""
    if file := _file(place):
        yield file
        return
    store = open_store(place)
    count = 0
    for entry in store.list():
        if is_recording_name(entry.name):
            count += 1
            yield store, entry
    if not count:
        why = "holds no recordings" if store.exists() else "no such file or folder"
        raise UserError(f"--recordings {place}: {why}: check the path")


def _file(place: str) -> tuple[Store, Entry] | None:
    """The file that a place names, whatever its name ends like; None if it names none."""
    if not place.startswith("gs://"):
        place = os.path.expanduser(place)
        if not os.path.isfile(place):
            return None
    elif place.removeprefix("gs://").count("/") == 0 or place.endswith("/"):  # a bucket, or a folder
        return None
    store, name = store_of_file(place)
    entry = next((entry for entry in store.list(name, folders=False) if entry.name == name), None)
    return (store, entry) if entry else None
