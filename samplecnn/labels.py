"""labels.csv: which grade or mark people gave to which recording, and by whom and of what it is played.

A jury's marks, numbers, may stand beside grades, or instead of them: then grades follow (marks.py).
Several people may grade a recording, a row each: then their ratings become one label (raters.py).

Grades are listed best first by people (`--grades A,B,C`) and turned round once, here: inside, index 0 is the worst.
Labels are joined when a model is trained or evaluated, so that correcting one decodes nothing again.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from samplecnn.contract import (
    END_S,
    GRADE,
    MARK,
    PERFORMER,
    PIECE,
    RATER,
    RECORDING,
    START_S,
    finder,
    match_key,
    name_in_cell,
)
from samplecnn.errors import UserError
from samplecnn.flags import flag
from samplecnn.marks import ANY, EQUAL, HIGH, LOW, MarkedGrade, MarkScale, lean, mark_scale, ranks, require_one_order
from samplecnn.raters import GRADES, Agreement, adjust, nearest_grade
from samplecnn.tables import read_csv

log = logging.getLogger(__name__)

MICROSECONDS = 6  # digits: a part of a second is one, however its ends are rounded
LEAST_PART_S = 1.0  # of a recording that is judged by itself; who writes 1.30 to 1.32 means minutes


@dataclass(frozen=True, kw_only=True)
class MarkSettings:
    """How marks are read, and which grades follow from them."""

    cuts: str = flag(
        EQUAL, "where people give marks and no grades: the marks between grades, such as 60,80; equal: equal shares"
    )
    mark_best: str = flag(HIGH, "which marks are the best", (HIGH, LOW))
    mark_range: str = flag(ANY, "the least and the most that a mark can be, such as 0,100; any: whatever is given")

    def scale(self, grades: int) -> MarkScale:
        """grades: how many there are. Raises UserError where the flags contradict each other."""
        return mark_scale(self.mark_best, self.mark_range, self.cuts, grades)


@dataclass(frozen=True, kw_only=True)
class LabelSettings(MarkSettings):
    """How labels are read."""

    grades: str = flag("A,B,C", "the grades, best first")
    group: str = flag(
        "auto",
        "column that is never on both sides of a split, or several: performer,piece; auto: performer, else piece, "
        "else each recording by itself",
    )

    def __post_init__(self) -> None:
        self.marks()

    def marks(self) -> MarkScale:
        """How marks are read."""
        return self.scale(len(self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """The grades, worst first."""
        return parse_grades(self.grades)

    def group_columns(self, columns: Collection[str]) -> tuple[str, ...]:
        """The columns to split by, among those of the labels file."""
        if self.group != "auto":
            named = tuple(name.strip() for name in self.group.split(","))
            for name in named:
                if name not in columns:
                    raise UserError(f"--group {name}: the labels have no such column, only {','.join(columns)}")
            return named
        return next(((column,) for column in (PERFORMER, PIECE) if column in columns), (RECORDING,))


@dataclass(frozen=True)
class Label:
    """One labelled recording: grade is an index (0 = worst); recordings of one group are never parted by a split.

    lean: -0.5 to 0.5, how far its mark, or its raters, put it towards the next grade, the better one above 0.
    further: its groups by further columns, where splits keep several apart (folds.splits). weight: how much it counts
    in training, 1 on average; mark: in the jury's own range, None where none was given;
    part: start and end, in s, of what was judged, None: the whole; piece: what is played, "" where that is not said.
    """

    recording: str
    grade: int
    group: str
    further: tuple[str, ...] = ()
    lean: float = 0.0
    weight: float = 1.0
    mark: float | None = None
    part: tuple[float, float] | None = None
    piece: str = ""


@dataclass(frozen=True)
class Labels:
    """A labels file: one label a recording, or one of each of several parts of it. agreement: of its raters, where
    several graded a recording."""

    labels: list[Label]
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Join:
    """Labels against the recordings that have segments, both ways; nothing falls through.

    labels: by the recording's exact name in the segments, those of its parts in their order; missing: labels without
    segments; unlabelled: the others.
    """

    labels: dict[str, list[Label]]
    missing: list[str]
    unlabelled: list[str]

    def alone(self) -> dict[str, Label]:
        """Of the recordings with one label, that."""
        return {name: labels[0] for name, labels in self.labels.items() if len(labels) == 1}


def parse_grades(text: str) -> tuple[str, ...]:
    """ "A,B,C" (best first) to ("C", "B", "A"). Raises UserError unless there are two or more, each once."""
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) != len(names):
        raise UserError(f"--grades {text}: name at least two different grades, best first, for example A,B,C")
    return tuple(reversed(names))


_Judged = tuple[str, tuple[float, float] | None]  # a recording's key, and the part of it


@dataclass(frozen=True)
class _Rating:
    """One row: whose (its row of labels), by whom, and what; grade None: it follows from the marks of all."""

    label: Label
    rater: str
    grade: int | None
    quality: float | None


def read_labels(data: bytes, place: str, settings: LabelSettings) -> Labels:
    """The labels of a CSV file. Raises UserError, naming place and line, for anything that cannot be meant."""
    rows = read_csv(data, place)
    if not rows:
        raise UserError(f"{place}: no labels in it: write a line recording,{GRADE} and one line a recording")
    missing = [column for column in (RECORDING, *(() if MARK in rows[0] else (GRADE,))) if column not in rows[0]]
    if missing:
        raise UserError(f"{place}: no column {missing[0]} in {','.join(rows[0])}: the first line must name the columns")
    columns, scale, rated = settings.group_columns(rows[0]), settings.marks(), RATER in rows[0]
    ratings: dict[tuple[_Judged, str], _Rating] = {}  # by what was judged and the rater
    labels: dict[str, Label] = {}  # of each recording the first
    both: list[MarkedGrade] = []
    for number, row in enumerate(rows, start=1):
        name, rater = name_in_cell(row[RECORDING]), row.get(RATER, "")
        if not name:
            raise UserError(f"{place}, label {number}: no recording named")
        grade = _grade(row[GRADE], name, settings, place) if GRADE in row else None
        quality = scale.quality(row[MARK], name, place) if MARK in row else None
        key = match_key(name)
        # An empty cell groups the recording with nothing but itself.
        group, *further = (match_key(row[column]) or f"{RECORDING} {key}" for column in columns)
        label = Label(name, 0, group, tuple(further), piece=row.get(PIECE, ""))
        part = _part(row, name, place)
        rating = _Rating(replace(label, part=part), rater, grade, quality)
        if rated and not rater:
            raise UserError(f"{place}, label {number}: no {RATER} named, as the others have")
        if labels.setdefault(key, label) != label:
            what = f" in {' or '.join(columns)}" if rated or part else ""
            raise UserError(f"{place}: {name!r} stands there twice and differs{what}: keep one line of it")
        if ratings.setdefault(((key, part), rater), rating) != rating:
            twice = f"{rater!r} gave {name!r} two {'marks or ' * (MARK in row)}grades: keep one line of them"
            raise UserError(
                f"{place}: " + (twice if rated else f"{name!r} stands there twice and differs: keep one line of it")
            )
        if grade is not None and quality is not None:
            both.append(MarkedGrade(name, quality, row[MARK], grade, (rater, row.get(PIECE, ""))))
    require_one_order(both, settings.names, place)
    if len(ratings) < len(rows):
        log.warning("%s: %d lines repeat another and count once", place, len(rows) - len(ratings))
    log.info("splits keep each %s on one side (--group)", " and each ".join(columns))
    judged = list(dict.fromkeys(judged for judged, _ in ratings))
    _require_apart(judged, labels, place)
    return _labels(ratings, judged, settings, place)


def _part(row: dict[str, str], recording: str, place: str) -> tuple[float, float] | None:
    """An empty start is the beginning, and both empty the whole recording."""
    start, end = row.get(START_S, ""), row.get(END_S, "")
    if not (start or end):
        return None
    try:
        found = float((start or "0").replace(",", ".")), float(end.replace(",", "."))
    except ValueError:
        found = math.nan, math.nan
    if not (found[0] >= 0 and LEAST_PART_S <= round(found[1] - found[0], MICROSECONDS) < math.inf):
        raise UserError(
            f"{place}: the part of {recording!r} from {start or 0!s} to {end or 'nowhere'} s is none: {START_S} must "
            f"be 0 or more, and {END_S} {LEAST_PART_S:g} s after it, or more"
        )
    return found


def _require_apart(judged: Iterable[_Judged], labels: dict[str, Label], place: str) -> None:
    """Raises UserError where two parts of a recording overlap, or one is judged beside the whole."""
    by_recording = sorted((key, part or (0.0, math.inf)) for key, part in judged)
    for (key, (start, end)), (other, (next_start, next_end)) in pairwise(by_recording):
        if key == other and next_start < end:
            first, second = (
                f"{start:g} to {'its end' if math.isinf(end) else f'{end:g} s'}"
                for start, end in ((start, end), (next_start, next_end))
            )
            raise UserError(
                f"{place}: two judged parts of {labels[key].recording!r} overlap, {first} and {second}: correct one"
            )


def _grade(text: str, name: str, settings: LabelSettings, place: str) -> int:
    if text not in settings.names:
        known = ",".join(reversed(settings.names))
        raise UserError(f"{place}: grade {text!r} of {name!r} is none of {known}: correct it or name all with --grades")
    return settings.names.index(text)


def _labels(
    ratings: dict[tuple[_Judged, str], _Rating], judged: list[_Judged], settings: LabelSettings, place: str
) -> Labels:
    """One label for each that was judged out of one rating of it, or those of several people."""
    given, scale = list(ratings.values()), settings.marks()
    grades, qualities = ([getattr(one, what) for one in given] for what in ("grade", "quality"))
    label_of = {one: rating.label for (one, _), rating in ratings.items()}
    marked, graded = None not in qualities, None not in grades
    grade_N = np.array(grades, np.int64) if graded else None
    quality_N = np.array(qualities, np.float64) if marked else None
    agreement, weight_R, rank_R = None, np.ones(len(judged)), None
    if len(ratings) > len(judged):
        raters = sorted({rater for _, rater in ratings})
        number_of = {one: number for number, one in enumerate(judged)}
        number_of_rater = {name: number for number, name in enumerate(raters)}
        recording_N = np.array([number_of[one] for one, _ in ratings], np.int64)
        rater_N = np.array([number_of_rater[rater] for _, rater in ratings], np.int64)
        adjusted = None
        if quality_N is not None:
            adjusted = adjust(quality_N, recording_N, rater_N, raters, scale.graded, place, MARK + "s")
            quality_N = adjusted.quality_R
        if grade_N is not None:  # what people said a grade is comes before what follows from their marks
            nearest = partial(nearest_grade, grades=len(settings.names))
            adjusted = adjust(grade_N, recording_N, rater_N, raters, nearest, place, GRADES)
            rank_R = adjusted.quality_R
        assert adjusted is not None, "a row has a grade or a mark"
        grade_N, weight_R, agreement = adjusted.grade_R, adjusted.weight_R, adjusted.agreement
        log.info("%s", agreement)
    elif grade_N is None:
        assert quality_N is not None, "a row has a grade or a mark"
        grade_N = scale.graded(quality_N)
    marks: list[float | None] = [None] * len(judged)
    if quality_N is not None:
        rank_R = ranks(quality_N, grade_N) if rank_R is None else rank_R
        marks = [scale.turned(quality) for quality in quality_N.tolist()]
    leaning_R = np.zeros(len(judged)) if rank_R is None else lean(rank_R, grade_N, len(settings.names))
    found = zip(judged, grade_N.tolist(), leaning_R.tolist(), weight_R.tolist(), marks, strict=True)
    return Labels(
        [
            replace(label_of[one], grade=grade, lean=leaning, weight=weight, mark=mark)
            for one, grade, leaning, weight, mark in found
        ],
        agreement,
    )


def join(labels: Iterable[Label], recordings: Iterable[str]) -> Join:
    """Match labels and recordings by name (contract.finder)."""
    names = set(recordings)
    find = finder(names)
    labelled: dict[str, list[Label]] = {}
    missing = []
    for label in labels:
        name = find(label.recording)
        if name is None:
            missing.append(label.recording)
        else:
            labelled.setdefault(name, []).append(label)
    for several in labelled.values():
        several.sort(key=lambda label: label.part or (0.0, 0.0))
    return Join(labelled, sorted(missing), sorted(names - labelled.keys()))


def groups_of(labels: Sequence[Label]) -> list[list[str]]:
    """The labels' groups by each column that splits keep apart."""
    return [list(column) for column in zip(*((label.group, *label.further) for label in labels), strict=True)]


def require_gradable(labels: dict[str, list[Label]], settings: LabelSettings, place: str) -> None:
    """Refuse what no model can be trained on: no label with segments, or a single grade."""
    if not labels:
        raise UserError(
            f"{place}: none of its recordings has segments: are the names relative to the recordings folder?"
        )
    present = sorted({label.grade for several in labels.values() for label in several})
    if len(present) < 2:
        only = settings.names[present[0]]
        raise UserError(f"{place}: every recording with segments has grade {only}: a model needs at least two grades")


def judged_names(judged: Iterable[tuple[str, tuple[float, float] | None]]) -> list[str]:
    """A name for each label (recording, part), unlike any other: the recording's own unless it has several."""
    pairs = list(judged)
    times = Counter(name for name, _ in pairs)
    return [f"{name} {part[0]:g}-{part[1]:g} s" if part and times[name] > 1 else name for name, part in pairs]
