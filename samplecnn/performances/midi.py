"""Performances in MIDI become recordings: FluidSynth plays them on a sampled piano, a room and a level are added here.

Notable: every setting is tried on every performance, all at one gain, so that nothing but the playing tells two players
apart; FluidSynth's own decay after the last note is cut, for it would tell how the file ends. All renderings of a
performance carry its performer and its take: no split can part them. A recording is a pure function of the MIDI file,
the sound font, FluidSynth's version and the settings; a digest of them in its comment says whether it is there already.
"""

import hashlib
import io
import logging
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from typing import NamedTuple

import mido
import numpy as np
import pyarrow as pa
from scipy.signal import oaconvolve

from samplecnn.contract import LEVEL_DB, PERFORMER, PIANO, RECORDING, ROOM, TAKE
from samplecnn.errors import JobError, UserError
from samplecnn.flags import flag, names_among
from samplecnn.performances.files import FORMATS, is_intact, write_audio
from samplecnn.performances.instrument import ROOMS, Samples, room_response
from samplecnn.tables import csv_bytes

log = logging.getLogger(__name__)

LONGEST_S = 4 * 3600.0  # nobody plays for longer; a damaged file may claim days

NO_ROOM = "none"  # as FluidSynth plays it, with a little reverberation of its own; any other room gets it dry
_MADE_BY = "samplecnn midi 1"  # part of the comment in each file: raise it when the sound of a rendering changes


class Piano(NamedTuple):
    """A sound font, and the Debian package that puts it there."""

    package: str
    soundfont: str


PIANOS = {
    "fluidr3": Piano("fluid-soundfont-gm", "/usr/share/sounds/sf2/FluidR3_GM.sf2"),  # 148 MB: a concert grand
    "musescore": Piano(  # 490 MB: another concert grand, softer, with more of it in the middle
        "musescore-general-soundfont-lossless", "/usr/share/sounds/sf2/MuseScore_General_Full.sf2"
    ),
    "timgm": Piano("timgm6mb-soundfont", "/usr/share/sounds/sf2/TimGM6mb.sf2"),  # 6 MB
}


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How it sounds: each performance once for every combination. Lists are names with commas between, or "all"."""

    pianos: str = flag("fluidr3", f"pianos among {','.join(PIANOS)}")
    rooms: str = flag(NO_ROOM, f"rooms among {','.join((NO_ROOM, *ROOMS))}")
    levels: str = flag("0", "how far below FluidSynth's full gain, the same for all files (dB): 0,12")
    formats: str = flag("flac", f"kinds of file among {','.join(FORMATS)}")

    def __post_init__(self) -> None:
        _ = self.combinations  # raises UserError

    @property
    def combinations(self) -> list[tuple[str, str, float, str]]:
        """Piano, room, dB below full gain and format of each rendering of a performance."""
        return list(
            product(
                names_among(tuple(PIANOS), "pianos", self.pianos),
                names_among((NO_ROOM, *ROOMS), "rooms", self.rooms),
                self._levels(),
                names_among(tuple(FORMATS), "formats", self.formats),
            )
        )

    def _levels(self) -> list[float]:
        try:
            below_db = list(dict.fromkeys(float(level) for level in self.levels.split(",")))
        except ValueError:
            below_db = [-1.0]
        if not all(0.0 <= level <= 60.0 for level in below_db):
            raise UserError(f"--levels {self.levels}: write numbers from 0 to 60 with commas between, for example 0,12")
        return below_db


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """One recording to be made of a MIDI file. stem: its path in the folder, without suffix; row: its labels."""

    midi: str
    stem: str
    name: str
    piano: str
    room: str
    below_db: float
    row: Mapping[str, str]


# --- the plan --------------------------------------------------------------------------------------------------------


def plan_renderings(
    midi: str, rows: Sequence[Mapping[str, str]], place: str, settings: RenderSettings
) -> list[Rendering]:
    """What is to be made of the MIDI files that a table names, line by line; place: the table, named in errors.

    A recording is named as in the table, its suffix the format's; where a list holds several pianos, rooms or levels,
    the name says which. A row without performer or take gets the MIDI's stem for it.
    """
    if not rows or RECORDING not in rows[0]:
        raise UserError(f"{place}: no column {RECORDING}: the first line must name it, each further one a recording")
    combinations = settings.combinations
    varied = [len({combination[i] for combination in combinations}) > 1 for i in range(3)]
    plan: dict[str, Rendering] = {}
    for row in rows:
        stem = os.path.splitext(row[RECORDING])[0]
        if not stem or os.path.isabs(stem) or ".." in stem.split("/"):
            raise UserError(f"{place}: {row[RECORDING]!r} names no file in the folder of recordings: correct it")
        path = _midi_file(midi, stem, place)
        labels = {**row, **{column: row.get(column) or stem for column in (PERFORMER, TAKE)}}
        for piano, room, below_db, kind in combinations:
            told = [part for part, say in zip((piano, room, f"{below_db:g}dB"), varied, strict=True) if say]
            name = "_".join((stem, *told)) + f".{kind}"
            if name in plan:
                raise UserError(f"{place}: two lines become {name!r}: give them different names")
            plan[name] = Rendering(
                midi=path, stem=stem, name=name, piano=piano, room=room, below_db=below_db, row=labels
            )
    return list(plan.values())


def _midi_file(folder: str, stem: str, place: str) -> str:
    for suffix in (".mid", ".midi"):
        path = os.path.join(folder, stem + suffix)
        if os.path.isfile(path):
            return path
    raise UserError(
        f"{os.path.join(folder, stem)}.mid: no such file, and {place} names it: is --midi the right folder?"
    )


def rendered_labels_csv(plan: Sequence[Rendering]) -> bytes:
    """labels.csv of these recordings: the table's columns, then which piano, room and level each one has."""
    columns = dict.fromkeys(column for rendering in plan for column in rendering.row)
    table: dict[str, Sequence[str | float]] = {column: [each.row[column] for each in plan] for column in columns}
    table[RECORDING] = [each.name for each in plan]
    table[PIANO] = [each.piano for each in plan]
    table[ROOM] = [each.room for each in plan]
    table[LEVEL_DB] = [0.0 - each.below_db for each in plan]
    return csv_bytes(pa.table(table))


# --- the recordings --------------------------------------------------------------------------------------------------


def render_recordings(folder: str, plan: Sequence[Rendering], workers: int | None = None) -> int:
    """Write the recordings that are not there yet, or not intact; returns how many. workers: None: every core.

    Every file appears whole or not at all, so an interrupted run is finished by the same call again. A MIDI file that
    cannot be rendered keeps no other from it: UserError names the first of them at the end.
    """
    if "://" in folder:
        raise UserError(f"{folder}: recordings are rendered into a local folder: choose one, and copy it from there")
    digests = installed({rendering.piano for rendering in plan})
    performances = [list(renderings) for _, renderings in groupby(plan, key=lambda rendering: rendering.midi)]
    workers = min(workers or os.cpu_count() or 1, len(performances))
    log.info("%d recordings of %d MIDI files in %s, %d at a time", len(plan), len(performances), folder, workers)
    if workers <= 1:
        return _collect(partial(_render, folder, renderings, digests) for renderings in performances)
    # spawn: forking a process that has threads (BLAS, a caller's Ray) can deadlock
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return _collect([pool.submit(_render, folder, renderings, digests).result for renderings in performances])


def _collect(results: Iterable[Callable[[], int]]) -> int:
    """How many files were written. Raises UserError for the first of the faults, when all else is done."""
    written, faults = 0, []
    for result in results:
        try:
            written += result()
        except (UserError, JobError) as fault:
            faults.append(str(fault))
    if faults:
        more = f" ({len(faults) - 1} more MIDI files have a fault)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")
    return written


def installed(pianos: Iterable[str]) -> dict[str, str]:
    """A digest of each piano as this machine plays it. Raises UserError, with the cure, if one cannot be played."""
    packages = [] if shutil.which("fluidsynth") else ["fluidsynth"]
    packages += [PIANOS[piano].package for piano in sorted(pianos) if not os.path.isfile(PIANOS[piano].soundfont)]
    if packages:
        raise UserError(f"not installed: {', '.join(packages)}: apt-get install -y {' '.join(packages)}")
    version = subprocess.run(["fluidsynth", "--version"], capture_output=True, check=True).stdout
    digests = {}
    for piano in pianos:
        with open(PIANOS[piano].soundfont, "rb") as soundfont:
            digests[piano] = hashlib.file_digest(soundfont, "sha256").hexdigest() + hashlib.sha256(version).hexdigest()
    return digests


def _render(folder: str, renderings: Sequence[Rendering], digests: Mapping[str, str]) -> int:
    """Write those renderings of one MIDI file that are missing; returns how many."""
    midi = renderings[0].midi
    with open(midi, "rb") as file:
        content = file.read()
    duration_s = _duration_s(content, midi)
    played: dict[tuple[str, bool, int], Samples] = {}  # whatever room and level come after it
    written = 0
    for each in renderings:
        path = os.path.join(folder, each.name)
        room = None if each.room == NO_ROOM else ROOMS[each.room]
        rate = FORMATS[each.name.rpartition(".")[2]].rates[0]
        made_from = f"{_MADE_BY} {digests[each.piano]} {each.stem} {room} {each.below_db} {rate}".encode()
        comment = hashlib.sha256(made_from + content).hexdigest()[:16]
        if is_intact(path, duration_s, comment):
            continue
        how = (PIANOS[each.piano].soundfont, room is None, rate)
        if how not in played:
            played[how] = _play(midi, *how)[: round(duration_s * rate)]
        samples_T = played[how] * np.float32(10.0 ** (-each.below_db / 20.0))
        if room:
            rng = np.random.default_rng(list(each.stem.encode()))  # each performance stands elsewhere in the room
            samples_T = oaconvolve(samples_T, room_response(room, rate, 1, rng)[0])[: len(samples_T)]
        peak = float(np.abs(samples_T).max())
        if peak > 1.0:
            over_db = 20.0 * np.log10(peak)
            raise UserError(f"{midi}: passes full scale by {over_db:.1f} dB: choose --levels of {over_db:.0f} dB more")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_audio(path, samples_T[np.newaxis], rate, comment)
        written += 1
    return written


def _duration_s(content: bytes, midi: str) -> float:
    """To the last event of a MIDI file, the silence after its last note included."""
    try:
        duration_s = float(mido.MidiFile(file=io.BytesIO(content)).length)
    except (OSError, EOFError, ValueError, LookupError, ArithmeticError, mido.KeySignatureError) as error:
        raise UserError(f"{midi}: not a MIDI file that can be played ({str(error) or 'it ends too early'})") from None
    if duration_s <= 0.0:
        raise UserError(f"{midi}: holds no music: take it out of the table")
    if duration_s > LONGEST_S:
        raise UserError(f"{midi}: lasts {duration_s / 3600:.0f} hours: take it out of the table")
    return duration_s


def _play(midi: str, soundfont: str, reverberation: bool, sample_rate: int) -> Samples:
    """FluidSynth's samples, mono (the mean of its two channels), with the decay that it appends."""
    with tempfile.TemporaryDirectory() as folder:
        raw = os.path.join(folder, "samples.raw")
        ended = subprocess.run(
            [
                *("fluidsynth", "-n", "-i", "-q"),
                *("-f", os.devnull),  # nobody's own settings
                *("-o", "synth.dynamic-sample-loading=1"),  # of 148 MB the piano alone: half the time of an excerpt
                *("-R", str(int(reverberation)), "-C", "0", "-g", "1.0", "-r", str(sample_rate)),
                *("-T", "raw", "-O", "float", "-F", raw),
                *(soundfont, os.path.abspath(midi)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode or not os.path.isfile(raw):
            raise JobError(f"{midi}: FluidSynth failed with code {ended.returncode}: {ended.stderr.strip()[-300:]}")
        return np.fromfile(raw, np.float32).reshape(-1, 2) @ np.full(2, 0.5, np.float32)
