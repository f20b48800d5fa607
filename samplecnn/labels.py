"""labels.csv: which grade people gave to which recording, and by whom and of what it is played.

Several people may grade a recording, a row each: then their ratings become one label (raters.py).

Grades are listed best first by people (`--grades A,B,C`) and turned round once, here: inside, index 0 is the worst.
Labels are joined when a model is trained or evaluated, so that correcting one decodes nothing again.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np

from samplecnn.contract import GRADE, PERFORMER, PIECE, RATER, RECORDING, match_key
from samplecnn.errors import UserError
from samplecnn.flags import flag
from samplecnn.raters import Agreement, adjust
from samplecnn.tables import read_csv

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How labels are read."""

    grades: str = flag("A,B,C", "the grades, best first")
    group: str = flag(
        "auto",
        "column that is never on both sides of a split, or several: performer,piece; auto: performer, else piece, "
        "else each recording by itself",
    )

    def __post_init__(self) -> None:
        parse_grades(self.grades)

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

    further: its groups by further columns, where splits keep several apart (folds.splits). weight: how much it counts
    in training, 1 on average.
    """

    recording: str
    grade: int
    group: str
    further: tuple[str, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Labels:
    """A labels file: one label a recording. agreement: of its raters, where several graded a recording."""

    labels: list[Label]
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Join:
    """Labels against the recordings that have segments, both ways; nothing falls through.

    labels: by the recording's exact name in the segments; missing: labels without segments; unlabelled: the others.
    """

    labels: dict[str, Label]
    missing: list[str]
    unlabelled: list[str]


def parse_grades(text: str) -> tuple[str, ...]:
    """ "A,B,C" (best first) to ("C", "B", "A"). Raises UserError unless there are two or more, each once."""
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) != len(names):
        raise UserError(f"--grades {text}: name at least two different grades, best first, for example A,B,C")
    return tuple(reversed(names))


def read_labels(data: bytes, place: str, settings: LabelSettings) -> Labels:
    """The labels of a CSV file. Raises UserError, naming place and line, for anything that cannot be meant."""
    rows = read_csv(data, place)
    if not rows:
        raise UserError(f"{place}: no labels in it: write a line recording,{GRADE} and one line a recording")
    missing = [column for column in (RECORDING, GRADE) if column not in rows[0]]
    if missing:
        raise UserError(f"{place}: no column {missing[0]} in {','.join(rows[0])}: the first line must name the columns")
    columns = settings.group_columns(rows[0])
    labels: dict[str, Label] = {}
    ratings: dict[tuple[str, str], int] = {}  # by recording and rater
    rated = RATER in rows[0]
    for number, row in enumerate(rows, start=1):
        name, grade = row[RECORDING].replace("\\", "/").removeprefix("./"), row[GRADE]
        if not name:
            raise UserError(f"{place}, label {number}: no recording named")
        if grade not in settings.names:
            known = ",".join(reversed(settings.names))
            raise UserError(
                f"{place}: grade {grade!r} of {name!r} is none of {known}: correct it or name all with --grades"
            )
        key = match_key(name)
        # An empty cell groups the recording with nothing but itself.
        group, *further = (row[column] or f"{RECORDING} {key}" for column in columns)
        label = Label(name, settings.names.index(grade), group, tuple(further))
        if rated:
            rater = row[RATER]
            if not rater:
                raise UserError(f"{place}, label {number}: no {RATER} named, as the others have")
            if ratings.setdefault((key, rater), label.grade) != label.grade:
                raise UserError(f"{place}: {rater!r} gave {name!r} two grades: keep one line of them")
            label = replace(label, grade=labels[key].grade) if key in labels else label  # that of all, below
        if key in labels and labels[key] != label:
            what = f" in {' or '.join(columns)}" if rated else ""
            raise UserError(f"{place}: {name!r} stands there twice and differs{what}: keep one line of it")
        labels[key] = label
    kept = len(ratings) if rated else len(labels)
    if kept < len(rows):
        log.warning("%s: %d lines repeat another and count once", place, len(rows) - kept)
    log.info("splits keep each %s on one side (--group)", " and each ".join(columns))
    if len(ratings) > len(labels):
        return _rated(labels, ratings, settings, place)
    return Labels(list(labels.values()))


def _rated(
    labels: dict[str, Label], ratings: dict[tuple[str, str], int], settings: LabelSettings, place: str
) -> Labels:
    """One label a recording out of the ratings of several people."""
    keys, raters = list(labels), sorted({rater for _, rater in ratings})
    number_of_key, number_of_rater = ({name: n for n, name in enumerate(names)} for names in (keys, raters))
    adjusted = adjust(
        np.array(list(ratings.values()), np.int64),
        np.array([number_of_key[key] for key, _ in ratings], np.int64),
        np.array([number_of_rater[rater] for _, rater in ratings], np.int64),
        raters,
        len(settings.names),
        place,
    )
    log.info("%s", adjusted.agreement)
    found = zip(labels.values(), adjusted.grade_R.tolist(), adjusted.weight_R.tolist(), strict=True)
    return Labels([replace(label, grade=grade, weight=weight) for label, grade, weight in found], adjusted.agreement)


def join(labels: Iterable[Label], recordings: Iterable[str]) -> Join:
    """Match labels and recordings by name, accents in either spelling (contract.match_key).

    Of two recordings whose names differ only in that, a label takes the one that is spelled like it.
    """
    names = set(recordings)
    by_key = {match_key(name): name for name in sorted(names)}
    labelled: dict[str, Label] = {}
    missing = []
    for label in labels:
        name = label.recording if label.recording in names else by_key.get(match_key(label.recording))
        if name is None:
            missing.append(label.recording)
        else:
            labelled[name] = label
    return Join(labelled, sorted(missing), sorted(names - labelled.keys()))


def require_gradable(labels: dict[str, Label], settings: LabelSettings, place: str) -> None:
    """Refuse what no model can be trained on: no label with segments, or a single grade."""
    if not labels:
        raise UserError(
            f"{place}: none of its recordings has segments: are the names relative to the recordings folder?"
        )
    present = sorted({label.grade for label in labels.values()})
    if len(present) < 2:
        only = settings.names[present[0]]
        raise UserError(f"{place}: every recording with segments has grade {only}: a model needs at least two grades")
