"""A plan of recordings whose grade is in the playing alone, and the folder of files that it describes.

Notable: everything that is not playing (piece, tempo, room, noise, level, tuning, instrument, length, file format) is
dealt to the whole corpus like cards from a shuffled deck: evenly used, and blind to the grade. Balancing within each
grade was tried and dropped: what is left out in cross-validation is then just what the rest lacks, and a classifier on
nuisances alone is right in 5 % of cases instead of 33 %. The plan is a pure function of its settings; a recording is a
pure function of its entry in the plan, so recordings can be made in any order, anywhere.
"""

import hashlib
import logging
import math
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from samplecnn import contract
from samplecnn.errors import UserError
from samplecnn.flags import flag, names_among
from samplecnn.performances.files import FORMATS, is_intact, write_audio
from samplecnn.performances.instrument import INSTRUMENTS, ROOMS, Noise, Samples, Sound, render, vary
from samplecnn.performances.pieces import PIECES
from samplecnn.performances.player import (
    FAULTS,
    Expression,
    Faults,
    Performance,
    draw_habits,
    expression_of,
    faults_of,
    perform,
)
from samplecnn.tables import csv_bytes

log = logging.getLogger(__name__)
T = TypeVar("T")

GRADES = ("C", "B", "A")  # worst first
EXPRESSION = "expression"  # may stand among the faults: what the player means to do
_FORM_OF_THE_DAY = 0.02  # sd of a performer's skill from one recording to the next
_FEWEST_PIECES = 8  # a small corpus keeps to so many pieces, and one that is played twice is heard in two grades
_MADE_BY = "samplecnn performances 1"  # part of the comment in each file: raise it when the sound of a plan changes

_CHOICES: dict[str, Iterable[str]] = {"pieces": PIECES, "instruments": INSTRUMENTS, "rooms": ROOMS, "formats": FORMATS}


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """What to perform. Lists are names with commas between, or "all"."""

    seed: int = flag(0, "seed of every random draw")
    count: int = flag(15, "recordings")
    performers: int = flag(9, "performers; each keeps to one grade")
    first_performer: int = flag(0, "number of the first performer: other numbers are other people, and other draws")
    gap: float = flag(0.2, "share of the range of skill left out between two grades (0: thirds of one range)")
    shortest_s: float = flag(92.0, "shortest recording (seconds)")
    longest_s: float = flag(148.0, "longest recording (seconds)")
    pieces: str = flag("all", f"pieces among {','.join(PIECES)}")
    instruments: str = flag("all", f"instruments among {','.join(INSTRUMENTS)}")
    rooms: str = flag("all", f"rooms among {','.join(ROOMS)}")
    formats: str = flag("all", f"kinds of file among {','.join(FORMATS)}")
    faults: str = flag("all", f"what follows the skill, among {','.join((*FAULTS, EXPRESSION))}")
    other_skill: float = flag(0.8, "skill in everything that --faults does not name (0 to 1)")
    prefix: str = flag("take", "how file names begin")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"--count {self.count}: choose 1 or more")
        if not min(len(GRADES), self.count) <= self.performers <= self.count:
            raise UserError(
                f"--performers {self.performers}: choose from {min(3, self.count)} to --count ({self.count})"
            )
        if not 0.0 <= self.gap < 0.5:
            raise UserError(f"--gap {self.gap}: choose from 0 to below 0.5")
        if self.first_performer < 0:
            raise UserError(f"--first-performer {self.first_performer}: choose 0 or more")
        if not 10.0 <= self.shortest_s <= self.longest_s < math.inf:
            raise UserError(f"--shortest-s {self.shortest_s}: choose from 10 to --longest-s ({self.longest_s})")
        if not 0.0 <= self.other_skill <= 1.0:
            raise UserError(f"--other-skill {self.other_skill}: choose from 0 to 1")
        if not self.prefix or "/" in self.prefix:
            raise UserError(f"--prefix {self.prefix!r}: choose a name without /")
        for name in (*_CHOICES, "faults"):
            self.names(name)

    def names(self, field: str) -> tuple[str, ...]:
        """The names in one of the lists. Raises UserError for a name that does not exist."""
        known = tuple(_CHOICES[field]) if field in _CHOICES else (*FAULTS, EXPRESSION)
        return names_among(known, field, getattr(self, field))


@dataclass(frozen=True, kw_only=True)
class PlannedRecording:
    """All that makes one recording. duration_s: of the file, silence before and after the take included."""

    name: str
    grade: str
    skill: float
    performer: str
    session: str
    piece: str
    instrument: str
    room: str
    format: str
    sample_rate: int
    channels: int
    duration_s: float
    tempo_bpm: float
    touch: float
    faults: Faults
    expression: Expression
    sound: Sound
    seed: int


# --- the plan --------------------------------------------------------------------------------------------------------


def _cards(rng: np.random.Generator, options: Sequence[T], count: int) -> list[T]:
    """One option for each recording, all used equally often, in random order."""
    deck = np.resize(rng.permutation(len(options)), count)
    return [options[card] for card in rng.permutation(deck)]


def _values(rng: np.random.Generator, low: float, high: float, count: int) -> npt.NDArray[np.float64]:
    """One number for each recording, covering low to high evenly, in random order."""
    strata = rng.permutation(count) + rng.random(count)
    return np.asarray(low + (high - low) * strata / count)


def plan_corpus(settings: CorpusSettings) -> list[PlannedRecording]:
    """The recordings of a corpus, in the order of their names. The same settings give the same plan."""
    rng = np.random.default_rng([settings.seed, settings.first_performer])
    grade_order = rng.permutation(len(GRADES))  # which grade has one more where they cannot be equal
    grade_R = np.sort(grade_order[np.arange(settings.count) % len(GRADES)])
    people, home_skill = _performers(settings, grade_order, rng)
    sizes = np.bincount(grade_R, minlength=len(GRADES)).tolist()
    person_R = np.concatenate(
        [np.resize(rng.permutation(people[g]), size) if size else [] for g, size in enumerate(sizes)]
    ).astype(int)
    low_R = grade_R * (_band_width(settings) + settings.gap)
    skill_R = home_skill[person_R] + rng.normal(0.0, _FORM_OF_THE_DAY, settings.count)
    skill_R = np.clip(skill_R, low_R, low_R + _band_width(settings))

    pieces = [settings.names("pieces")[i] for i in rng.permutation(len(settings.names("pieces")))]
    piece_R = _cards(rng, pieces[: max(_FEWEST_PIECES, *sizes)], settings.count)
    if max(sizes) <= _FEWEST_PIECES:  # so few that one grade might have a piece to itself: deal round the grades
        piece_R = [pieces[r % min(_FEWEST_PIECES, len(pieces))] for r in range(settings.count)]
    instrument_R = _cards(rng, settings.names("instruments"), settings.count)
    room_R = _cards(rng, settings.names("rooms"), settings.count)
    format_R = _cards(rng, settings.names("formats"), settings.count)
    high_rate_R = _cards(rng, (False, True), settings.count)
    channels_R = _cards(rng, (1, 2), settings.count)
    hum_hz_R = _cards(rng, (50.0, 60.0), settings.count)
    value_R = {  # what is drawn: from, to
        name: _values(rng, low, high, settings.count)
        for name, low, high in (
            (contract.DURATION_S, settings.shortest_s, settings.longest_s),
            ("tempo", 0.86, 1.16),
            ("touch", 60.0, 72.0),
            ("level_dbfs", -31.0, -22.0),
            ("hiss_dbfs", -82.0, -58.0),
            ("hum_dbfs", -90.0, -62.0),
            ("rumble_dbfs", -85.0, -60.0),
            ("tuning_cents", -35.0, 35.0),
            ("tilt_db", -4.0, 4.0),
            ("reverberation", 0.7, 1.4),
            ("lead_s", 0.3, 1.5),
            ("tail_s", 1.0, 2.5),
        )
    }
    seed_R = rng.integers(2**31, size=settings.count)
    number_of_person = rng.permutation(settings.performers)  # so that a performer's number says nothing
    number_R = rng.permutation(settings.count)
    width = max(2, len(str(settings.count)))
    played: dict[int, int] = {}
    plan: list[PlannedRecording] = []
    for r in np.argsort(number_R):
        person = int(person_R[r])
        number = settings.first_performer + int(number_of_person[person])
        session = played[person] = played.get(person, -1) + 1
        value = {name: float(values[r]) for name, values in value_R.items()}
        piece = PIECES[piece_R[r]]
        seed = int(seed_R[r])
        faults, expression = _manner(settings, float(skill_R[r]), number)
        rates = FORMATS[format_R[r]].rates
        plan.append(
            PlannedRecording(
                name=f"{settings.prefix}-{number_R[r] + 1:0{width}d} {piece.title}.{format_R[r]}",
                grade=GRADES[grade_R[r]],
                skill=float(skill_R[r]),
                performer=f"p{number:02d}",
                session=f"p{number:02d}-{session // 2 + 1}",
                piece=piece.name,
                instrument=instrument_R[r],
                room=room_R[r],
                format=format_R[r],
                sample_rate=rates[-1] if high_rate_R[r] else rates[0],
                channels=channels_R[r],
                duration_s=value[contract.DURATION_S],
                tempo_bpm=piece.tempo_bpm * value["tempo"],
                touch=value["touch"],
                faults=faults,
                expression=expression,
                sound=_sound(instrument_R[r], room_R[r], hum_hz_R[r], value, seed),
                seed=seed,
            )
        )
    return plan


def _band_width(settings: CorpusSettings) -> float:
    return (1.0 - settings.gap * (len(GRADES) - 1)) / len(GRADES)


def _performers(
    settings: CorpusSettings, grade_order: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.float64]]:
    """The performers of each grade, and every performer's own skill: spread evenly over his grade's band."""
    grade_P = grade_order[np.arange(settings.performers) % len(GRADES)]
    skill_P = np.empty(settings.performers)
    people = [np.flatnonzero(grade_P == grade) for grade in range(len(GRADES))]
    for grade, members in enumerate(people):
        strata = (np.arange(len(members)) + rng.random(len(members))) / max(len(members), 1)
        skill_P[members] = grade * (_band_width(settings) + settings.gap) + _band_width(settings) * strata
    return people, skill_P


def _manner(settings: CorpusSettings, skill: float, performer: int) -> tuple[Faults, Expression]:
    """How this performer plays at this skill, everything that --faults does not name being at --other-skill."""
    own_seed = int(np.random.default_rng([settings.seed, 1, performer]).integers(2**31))
    habits = draw_habits(own_seed)
    following = settings.names("faults")
    graded, steady = faults_of(skill, habits), faults_of(settings.other_skill, habits)
    faults = replace(steady, **{name: getattr(graded, name) for name in following if name != EXPRESSION})
    return faults, expression_of(skill if EXPRESSION in following else settings.other_skill, own_seed)


def _sound(instrument: str, room: str, hum_hz: float, value: dict[str, float], seed: int) -> Sound:
    base = ROOMS[room]
    return Sound(
        instrument=vary(INSTRUMENTS[instrument], np.random.default_rng(seed)),
        room=replace(
            base, reverberation_s=base.reverberation_s * value["reverberation"], tilt_db=base.tilt_db + value["tilt_db"]
        ),
        noise=Noise(hum_hz=hum_hz, **{name: value[name] for name in ("hiss_dbfs", "hum_dbfs", "rumble_dbfs")}),
        **{name: value[name] for name in ("level_dbfs", "tuning_cents", "lead_s", "tail_s")},
    )


# --- the recordings --------------------------------------------------------------------------------------------------


def perform_recording(planned: PlannedRecording) -> Performance:
    """The notes of a planned recording, as they are played (milliseconds of work; nothing is rendered)."""
    return perform(
        PIECES[planned.piece],
        tempo_bpm=planned.tempo_bpm,
        duration_s=planned.duration_s - planned.sound.lead_s - planned.sound.tail_s,
        faults=planned.faults,
        expression=planned.expression,
        seed=planned.seed,
        touch=planned.touch,
    )


def render_recording(planned: PlannedRecording, sample_rate: int | None = None, channels: int | None = None) -> Samples:
    """The samples of a planned recording, float32 [channels, samples], at its own rate and channels or at others."""
    # More threads only wait for each other in its small matrix products: twice the CPU time on two cores, same bits.
    with threadpool_limits(1):
        return render(
            perform_recording(planned),
            planned.sound,
            sample_rate=sample_rate or planned.sample_rate,
            channels=channels or planned.channels,
            seed=planned.seed,
        )


def write_corpus(folder: str, plan: Sequence[PlannedRecording], workers: int | None = None) -> int:
    """Write the recordings that are not there yet, or not intact; returns how many. workers: None: every core.

    Every file appears whole or not at all, so an interrupted run is finished by the same call again.
    """
    if "://" in folder:
        raise UserError(f"{folder}: recordings are performed into a local folder: choose one, and copy it from there")
    os.makedirs(folder, exist_ok=True)
    missing = [planned for planned in plan if not is_intact(*_file(folder, planned))]
    workers = min(workers or os.cpu_count() or 1, len(missing))
    log.info("%d of %d recordings to perform in %s", len(missing), len(plan), folder)
    if workers <= 1:
        for planned in missing:
            _write(folder, planned)
    else:
        # spawn: forking a process that has threads (BLAS, a caller's Ray) can deadlock
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for written in [pool.submit(_write, folder, planned) for planned in missing]:
                written.result()
    return len(missing)


def _file(folder: str, planned: PlannedRecording) -> tuple[str, float, str]:
    """Path, length in seconds and comment of a recording's file; the comment is a digest of its whole plan."""
    comment = hashlib.sha256(f"{_MADE_BY} {planned!r}".encode()).hexdigest()[:16]
    return os.path.join(folder, planned.name), planned.duration_s, comment


def _write(folder: str, planned: PlannedRecording) -> None:
    path, _, comment = _file(folder, planned)
    write_audio(path, render_recording(planned), planned.sample_rate, comment)


def labels_csv(plan: Sequence[PlannedRecording]) -> bytes:
    """labels.csv of these recordings."""
    columns = (contract.GRADE, contract.PERFORMER, contract.PIECE, contract.SESSION)
    return csv_bytes(
        pa.table(
            {
                contract.RECORDING: [planned.name for planned in plan],
                **{column: [getattr(planned, column) for planned in plan] for column in columns},
            }
        )
    )


def truth_csv(plan: Sequence[PlannedRecording]) -> bytes:
    """Everything in the plan, one row a recording: latent skill, every fault, every nuisance ("sound.level_dbfs")."""
    rows = [_flat(asdict(planned)) for planned in plan]
    renamed = {fields(PlannedRecording)[0].name: contract.RECORDING}
    return csv_bytes(pa.table({renamed.get(column, column): [row[column] for row in rows] for column in rows[0]}))


def _flat(values: dict[str, Any], stem: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{stem}{name}.") if isinstance(value, dict) else {f"{stem}{name}": value})
    return flat
