"""grade without a grades folder: a few recordings, one after another, told and not kept.

For a person who waits in front of a terminal: no Ray, which takes longer to start than a recording takes to grade. The
grades are those of grade.py bit for bit: the same decoder, the same batches, one thread.
"""

import os
from collections.abc import Callable, Iterator, Sequence

import torch

from samplecnn import model_folder
from samplecnn.audio import Decoder
from samplecnn.contract import DURATION_S, RECORDING, WARNING, is_recording_name, spell_name
from samplecnn.errors import RecordingError, UserError
from samplecnn.hearing import own_threads
from samplecnn.infer import Grader
from samplecnn.pipelines.outcome import Outcome
from samplecnn.segments import activity
from samplecnn.store import Entry, Store, open_store, store_of_file
from samplecnn.terminal import failed_line, grade_line, heading, width_of


def grade_few(recordings: Sequence[str], model: str, tell: Callable[[str], None]) -> Outcome:
    """Grade these files, and the recordings in these folders; tell: takes one line a recording, as it is graded.

    Raises UserError for a place that holds none, or is not there, before anything is graded.
    """
    found = [pair for place in recordings for pair in _recordings_of(place)]
    card, network = model_folder.load(model)
    own_threads(1)
    grader = Grader(card, network, torch.device("cpu"))
    names = [spell_name(store.url(entry.name)) for store, entry in found]
    width = width_of(names)
    tell(heading(width))
    graded = failed = 0
    with Decoder(card.settings.sample_rate) as decoder:
        for (store, entry), name in zip(found, names, strict=True):
            try:
                with store.fetch(entry.name, entry.version, entry.stamp) as path:
                    decoded = decoder.decode(path)
                one = grader.grade(decoded.samples_T, activity(decoded.frame_power_F))
            except RecordingError as error:
                failed += 1
                tell(failed_line(name, str(error), width))
                continue
            graded += one.merged is not None
            warning = "; ".join(decoded.warnings) or None
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
