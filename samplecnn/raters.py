"""Several people grade the same recordings: who is strict, what their grades come to, and how far they agree.

A rating is the quality of the playing, plus the leniency of its rater, plus what nobody can explain: the additive
two-way model with raters as columns (Shrout & Fleiss 1979, case 2), fitted by least squares, since not everybody hears
every recording. Its parts of variance are found by moments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph, linalg

from samplecnn.errors import UserError
from samplecnn.metrics import kappa

# N ratings, R recordings, K raters. Ratings are numbers, the more the better: marks, or grades from 0, the worst, on.
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

GRADES = "grades"  # what leniency is counted in, unless it is marks
DRAWS = 500  # of what the truth may be; the perfect grader's figures move by 0.01 from one seed to another


@dataclass(frozen=True)
class Agreement:
    """How far raters agree.

    leniency: by rater, in units of `unit`, 0 on average over ratings; one, mean: the reliability of a single rating and
    of the mean of a recording's ratings, 0 to 1, leniency taken out; perfect_accuracy, perfect_kappa: what a grader
    that knew the truth would be scored at by these labels.
    """

    ratings: int
    recordings: int
    leniency: dict[str, float]
    one: float
    mean: float
    perfect_accuracy: float
    perfect_kappa: float
    unit: str = GRADES

    def __str__(self) -> str:
        kind, strict = (f(self.leniency, key=self.leniency.__getitem__) for f in (max, min))
        return (
            f"{len(self.leniency)} raters, {self.ratings} ratings of {self.recordings} recordings: a single rating's "
            f"reliability is {self.one:.2f}, that of a recording's mean {self.mean:.2f}; {strict} is the strictest "
            f"({self.leniency[strict]:+.2f} {self.unit}), {kind} the most lenient ({self.leniency[kind]:+.2f}). By "
            f"these labels a perfect grader would reach an accuracy of {self.perfect_accuracy:.2f} and a kappa of "
            f"{self.perfect_kappa:.2f}."
        )


@dataclass(frozen=True)
class Adjusted:
    """What the ratings come to. quality_R: the mean of each recording without leniency; grade_R: its grade; weight_R:
    how far a recording's mean can be relied on, beside that of the others (1 on average)."""

    quality_R: Float64
    grade_R: Int64
    weight_R: Float64
    agreement: Agreement


def adjust(
    rating_N: Int64 | Float64,
    recording_N: Int64,
    rater_N: Int64,
    raters: Sequence[str],
    graded: Callable[[Float64], Int64],
    place: str,
    unit: str = GRADES,
) -> Adjusted:
    """Take the raters' leniency out of their ratings.

    rating_N: what was given; recording_N, rater_N: whose and by whom, from 0; raters: their names; graded: the grades
    (0 = worst) of qualities; unit: of ratings, for people. Raises UserError, naming the place, where leniency cannot be
    told from quality: a rater with one rating, raters whom no recording joins, or too few ratings.
    """
    recordings = int(recording_N.max()) + 1
    _require_joined(recording_N, rater_N, recordings, raters, place)
    left = len(rating_N) - recordings - len(raters) + 1
    if left < 1:
        raise UserError(
            f"{place}: {len(rating_N)} ratings are too few to tell how strict {len(raters)} raters are: let more of "
            f"the recordings be rated twice, or leave the column rater out"
        )
    quality_R, leniency_K = _fitted(rating_N.astype(np.float64), recording_N, rater_N, recordings, len(raters))
    off_N = rating_N - quality_R[recording_N] - leniency_K[rater_N]
    ratings_R = np.bincount(recording_N, minlength=recordings)
    error = float(off_N @ off_N) / left
    spread = max(0.0, float(np.var(quality_R, ddof=1)) - error * float(np.mean(1 / ratings_R)))
    reliability_R = _share(spread, error / ratings_R)
    grade_R = graded(quality_R)
    accuracy, by_kappa = _perfect(quality_R, spread, reliability_R, grade_R, graded)
    agreement = Agreement(
        len(rating_N),
        recordings,
        dict(zip(raters, leniency_K.round(3).tolist(), strict=True)),
        round(float(_share(spread, np.array(error))), 3),
        round(float(reliability_R.mean()), 3),
        round(accuracy, 3),
        round(by_kappa, 3),
        unit,
    )
    weight_R = reliability_R / reliability_R.mean() if spread else np.ones(recordings)
    return Adjusted(quality_R, grade_R, weight_R, agreement)


def nearest_grade(quality_R: Float64, grades: int) -> Int64:
    """The nearest of so many grades; half-way the better one. To a billionth: sums of floats miss the half."""
    return np.clip(np.floor(quality_R + 0.5 + 1e-9), 0, grades - 1).astype(np.int64)


def _require_joined(recording_N: Int64, rater_N: Int64, recordings: int, raters: Sequence[str], place: str) -> None:
    given_K = np.bincount(rater_N, minlength=len(raters))
    if (given_K == 1).any():
        lonely = raters[int(np.argmax(given_K == 1))]
        raise UserError(
            f"{place}: rater {lonely!r} gave one rating only, which does not tell how strict they are: leave it out"
        )
    joined = sparse.coo_matrix(
        (np.ones(len(rater_N)), (recording_N, recordings + rater_N)), shape=(recordings + len(raters),) * 2
    )
    parts, part_of = csgraph.connected_components(joined, directed=False)
    if parts > 1:
        of_rater_K = part_of[recordings:]
        other = raters[int(np.argmax(of_rater_K != of_rater_K[0]))]
        raise UserError(
            f"{place}: no recording joins rater {raters[0]!r} and rater {other!r}, not through others either, so that "
            "nobody can tell who is strict: let them rate some of the same recordings"
        )


def _fitted(
    rating_N: Float64, recording_N: Int64, rater_N: Int64, recordings: int, raters: int
) -> tuple[Float64, Float64]:
    """Quality of each recording and leniency of each rater, whose mean over the ratings is 0."""
    number_N, one_N = np.arange(len(rating_N)), np.ones(len(rating_N))
    design = sparse.hstack(
        [
            sparse.coo_matrix((one_N, (number_N, recording_N)), shape=(len(rating_N), recordings)),
            sparse.coo_matrix((one_N, (number_N, rater_N)), shape=(len(rating_N), raters)),
        ]
    ).tocsr()
    found = linalg.lsqr(design, rating_N, atol=1e-12, btol=1e-12)[0]
    quality_R, leniency_K = found[:recordings], found[recordings:]
    shift = float(leniency_K[rater_N].mean())
    return quality_R + shift, leniency_K - shift


def _share(spread: float, error: Float64) -> Float64:
    """How much of a variance is quality's; all of it where nothing is unexplained."""
    share: Float64 = np.where(spread + error > 0, spread / np.where(spread + error > 0, spread + error, 1.0), 1.0)
    return share


def _perfect(
    quality_R: Float64,
    spread: float,
    reliability_R: Float64,
    grade_R: Int64,
    graded: Callable[[Float64], Int64],
) -> tuple[float, float]:
    """Mean accuracy and kappa of true grades, drawn from what the ratings leave open, against the labels."""
    rng = np.random.default_rng(0)
    centre = float(quality_R.mean())
    expected_R = centre + reliability_R * (quality_R - centre)
    open_R = np.sqrt(spread * (1 - reliability_R))
    accuracies, kappas = [], []
    for _ in range(DRAWS):
        truth_R = expected_R + open_R * rng.standard_normal(len(quality_R))
        true_R = graded(truth_R)
        accuracies.append(float(np.mean(true_R == grade_R)))
        kappas.append(kappa(grade_R, true_R))
    return float(np.mean(accuracies)), float(np.mean(kappas))
