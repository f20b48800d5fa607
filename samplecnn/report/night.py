"""The last run: what came in, whether it is like what was heard before, and what a person should grade next.

A model is as good as its evaluation says on recordings like those that it was evaluated on. Whether tonight's are like
those is asked of what can be known without ears: level, length, sample rate, how much of it is playing, and the scores.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import ks_2samp
from sklearn.neighbors import NearestNeighbors

from samplecnn.commits import DELETED, DONE, FAILED, ITEM_KEY, MANIFEST, OUTCOME, RUN, joined
from samplecnn.contract import (
    BECAUSE,
    CONFIDENCE,
    CORRECTED_BY,
    GRADABLE,
    LABEL_NEXT_SCHEMA,
    MACHINE_GRADE,
    MODEL_ID,
    REASON,
    RECORDING,
    VERSION,
)
from samplecnn.inputs import INPUTS, SCORES, inputs_of_grades
from samplecnn.report.clusters import means_of_recordings, with_sketch_and_say
from samplecnn.report.grading import GradesFolder

# R recordings, K numbers of a sketch.
Float64 = npt.NDArray[np.float64]

ENOUGH = 30  # recordings, of which differences show that matter
FEWEST = 5  # recordings on either side; fewer are not compared
# Of 100 nights like all others one gives a warning, whichever of the five measures it is of.
UNLIKELY = 0.01 / len(INPUTS)
LABELS = 20  # recordings in label_next.csv: an evening's work
NEIGHBOURS = 3
NOT_SURE = "not sure"  # how the reason of a grade that was held back begins


@dataclass(frozen=True)
class Drift:
    """One measure of tonight's recordings beside the same of others. p: how often two draws from one distribution
    differ as much (Kolmogorov-Smirnov)."""

    name: str
    unit: str
    tonight: Float64
    before: Float64
    p: float

    @property
    def is_unlike(self) -> bool:
        return self.p < UNLIKELY

    @property
    def sentence(self) -> str:
        """For a person: what it is now, and what it was."""
        now, then = (f"{np.median(values):.4g} {self.unit}".strip() for values in (self.tonight, self.before))
        return f"{self.name}: median {now}, before {then} (p = {self.p:.2g})"


@dataclass(frozen=True)
class Night:
    """The last run that graded anything. row_R: is a recording of the table of it? gone: recordings that were deleted;
    drifts: of what could be compared; compared_with: in words."""

    run: str
    row_R: npt.NDArray[np.bool_]
    graded: int
    not_gradable: int
    failed: int
    gone: int
    drifts: list[Drift]
    compared_with: str
    enough: int = ENOUGH

    @property
    def began(self) -> str:
        """When, for a person: a run's name begins with it."""
        found = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)", self.run)
        return "{}-{}-{} {}:{} UTC".format(*found.groups()) if found else self.run


def last_night(
    folder: GradesFolder, training: Mapping[str, Float64], scores_before: Sequence[float] | None = None
) -> Night | None:
    """The last run beside the training data, as far as it is given, else beside the grades before it; scores beside
    those of an evaluation, where one is given. None where nothing was ever graded."""
    items = folder.state.items
    if not len(items):
        return None
    run = items.filter(pc.equal(items[MANIFEST], pc.max(items[MANIFEST])))[RUN][0].as_py()
    ours = items.filter(pc.equal(items[RUN], run))
    key_R = joined(folder.recordings, *ITEM_KEY)
    # A person may have graded one that failed: it came in this run, which did not grade it.
    row_R, done_R = (
        pc.is_in(key_R, value_set=joined(rows, *ITEM_KEY)).to_numpy()
        for rows in (ours, ours.filter(pc.field(OUTCOME) == DONE))
    )
    inputs = inputs_of_grades(folder.recordings)
    tonight, earlier = ({name: x_R[mask_R] for name, x_R in inputs.items()} for mask_R in (row_R, ~row_R))
    before = {**earlier, **training}
    if scores_before is not None:
        before[SCORES] = np.array(scores_before)
    gradable = int(folder.recordings[GRADABLE].to_numpy()[done_R].sum())
    return Night(
        run=run,
        row_R=row_R,
        graded=gradable,
        not_gradable=int(done_R.sum()) - gradable,
        failed=int((ours[OUTCOME].to_numpy() == FAILED).sum()),
        gone=int((ours[OUTCOME].to_numpy() == DELETED).sum()),
        drifts=drifts(tonight, before),
        compared_with=_compared_with(set(training), scores_before is not None or SCORES in training),
    )


def _compared_with(training: Collection[str], evaluated: bool) -> str:
    with_what = "the training data" if set(training) - {SCORES} else "the recordings before"
    return with_what + (", scores with those of the evaluation" if evaluated else "")


def drifts(tonight: Mapping[str, Float64], before: Mapping[str, Float64]) -> list[Drift]:
    """Each measure that enough recordings have on both sides."""
    found = []
    for name, unit in INPUTS.items():
        one, other = (values[np.isfinite(values)] for values in (tonight[name], before[name]))
        if min(len(one), len(other)) >= FEWEST:
            found.append(Drift(name, unit, one, other, float(ks_2samp(one, other).pvalue)))
    return found


def label_next(folder: GradesFolder) -> pa.Table:
    """The recordings that a person's grade would teach most, the first first (contract.LABEL_NEXT_SCHEMA).

    In turn one that the model is unsure of and one that sounds unlike all others to it. Not those that a person has
    graded, nor those in which nobody plays.
    """
    rows = folder.recordings
    unsure = pc.starts_with(rows[REASON].fill_null(""), NOT_SURE)
    asked_R = pc.and_(pc.invert(pc.is_valid(rows[CORRECTED_BY])), pc.or_(rows[GRADABLE], unsure)).to_numpy()
    confidence_R = np.where(unsure.to_numpy(), 0.0, pc.fill_null(rows[CONFIDENCE], 1.0).to_numpy())
    novelty_R = _novelty(folder)
    by_doubt = [row for row in np.argsort(confidence_R, kind="stable").tolist() if asked_R[row]]
    by_novelty = [
        row for row in np.argsort(-novelty_R, kind="stable").tolist() if asked_R[row] and np.isfinite(novelty_R[row])
    ]
    because: dict[int, str] = {}
    for place in range(len(by_doubt)):
        doubted = by_doubt[place]
        because.setdefault(doubted, "the model is unsure of it")
        if place < len(by_novelty):
            because.setdefault(by_novelty[place], "it sounds unlike the others to the model")
    chosen = list(because)[:LABELS]
    told = rows.select([RECORDING, VERSION, MACHINE_GRADE, CONFIDENCE]).take(pa.array(chosen, pa.int64())).to_pylist()
    return pa.Table.from_pylist(
        [{**row, BECAUSE: because[number]} for row, number in zip(told, chosen, strict=True)], schema=LABEL_NEXT_SCHEMA
    )


def _novelty(folder: GradesFolder) -> Float64:
    """How far each recording's mean sketch lies from its nearest neighbours', [R]; NaN where that is not known."""
    novelty_R = np.full(len(folder.recordings), np.nan)
    names = folder.recordings[RECORDING].combine_chunks()
    segments = folder.segments.filter(with_sketch_and_say(folder.segments))
    for model in pc.unique(segments[MODEL_ID]).to_pylist():
        first_R, mean_RK = means_of_recordings(segments, model)
        if len(first_R) <= NEIGHBOURS:
            continue
        row_R = pc.index_in(segments[RECORDING].take(pa.array(first_R)), value_set=names).to_numpy()
        nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(mean_RK)
        novelty_R[row_R] = nearest.kneighbors()[0].mean(axis=1)
    return novelty_R
