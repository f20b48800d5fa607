"""How good the grades are, by recording, with intervals: what a statistician would ask to see.

Every figure comes with a 95 % interval, because 15 recordings prove little: of five of each grade a kappa of 0.40 is no
more than chance gives one time in twenty (chance_kappa).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, rankdata, spearmanr, t

# R recordings, G grades (0 = worst), M measures, D data sets (the given one, then resampled ones), N groups, C columns
# to group by, K confidences.
Grades = npt.NDArray[np.int64]
Probs = npt.NDArray[np.float64]

# Above this p-value nothing is claimed. Not 0.05: the test deals grades to finished predictions and does not train
# again, and where there was nothing to learn up to 10 % fell below 0.05, 2 % below 0.01 (docs/evaluation.md).
SIGNIFICANT = 0.01
ONE_IN_TWENTY = 0.05
LEAST_GROUPS = 10  # of fewer, the standard error of a difference over them is too uncertain itself
BOOTSTRAPS = 2000
PERMUTATIONS = 2000
DEALT_AT_ONCE = 1 << 20  # grades in memory at a time, 8 MB an array of them


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def widened(self, *ends: float) -> "Figure":
        """The same value; an interval that holds these too."""
        return Figure(self.value, min(self.low, *ends), max(self.high, *ends))

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Metrics:
    """Agreement of predicted with given grades over recordings.

    kappa: quadratic weighted; mae: mean distance in grades; rps: ranked probability score, 0 = sure and right .. 1 =
    sure and as wrong as can be; log_loss: nats, None where a given grade was held to be impossible; spearman: rank
    correlation of the expected rank, 0 where that is constant; off_by_two: recordings that are two grades or more off;
    p_value: how often shuffled labels agree as well by kappa; confusion[given][predicted], index 0 = worst; risk_area,
    ideal_risk_area: RiskCoverage's.
    """

    recordings: int
    accuracy: Figure
    kappa: Figure
    mae: Figure
    rps: Figure
    log_loss: Figure | None
    spearman: float
    off_by_two: int
    p_value: float
    confusion: list[list[int]]
    risk_area: float
    ideal_risk_area: float


@dataclass(frozen=True)
class MarkMetrics:
    """Marks told beside marks given. r2: share of their variance that is told, below 0 where the mean mark would be
    nearer; spearman: rank correlation; mae: mean distance, in marks; within: share of marks given that lie in the
    intervals told; width: of these, on average, in marks."""

    recordings: int
    r2: Figure
    spearman: Figure
    mae: Figure
    within: float
    width: float


def evaluate_marks(given_R: Probs, told_RM: Probs, group_CR: Sequence[list[str]], seed: int) -> MarkMetrics:
    """told_RM: mark, least and most of each recording; those that are no numbers are left out.

    Intervals are bootstrapped over groups; in a resampled data set recordings keep the ranks that they have in all.
    """
    there = np.flatnonzero(np.isfinite(told_RM[:, 0]))
    given_R, (mark_R, low_R, high_R) = given_R[there], told_RM[there].T
    off_R = given_R - mark_R
    x_RM = np.stack([off_R**2, given_R, given_R**2, np.abs(off_R), *_rank_products(given_R, mark_R)])
    groups = [[group_R[i] for i in there] for group_R in group_CR]
    m = bootstrap_means(x_RM.T, groups, np.random.default_rng(seed)).T
    r2_D = 1 - _ratio(m[0], m[2] - m[1] ** 2, where_none=1.0)  # 0 where all marks are alike: nothing to tell
    spearman_D = _correlation(m[4:])
    within = float(np.mean((low_R <= given_R) & (given_R <= high_R)))
    width = float(np.mean(high_R - low_R))
    return MarkMetrics(len(there), _figure(r2_D), _figure(spearman_D), _figure(m[3]), within, width)


def rank_correlation(one_R: Probs, other_R: Probs, group_CR: Sequence[list[str]], seed: int) -> Figure:
    """Spearman's, with intervals as in evaluate_marks; 0 where either is constant."""
    products_MR = np.stack(_rank_products(one_R, other_R))
    return _figure(_correlation(bootstrap_means(products_MR.T, group_CR, np.random.default_rng(seed)).T))


def _rank_products(one_R: Probs, other_R: Probs) -> list[Probs]:
    """Of which the means tell the rank correlation (_correlation)."""
    a_R, b_R = (rankdata(x_R) / len(one_R) for x_R in (one_R, other_R))
    return [a_R, b_R, a_R**2, b_R**2, a_R * b_R]


def _correlation(mean_MD: Probs) -> Probs:
    """mean_MD: means of _rank_products over each of D data sets."""
    a_D, b_D, aa_D, bb_D, ab_D = mean_MD
    return _ratio(ab_D - a_D * b_D, np.sqrt(np.maximum(0, (aa_D - a_D**2) * (bb_D - b_D**2))))


def _ratio(x_D: Probs, by_D: Probs, where_none: float = 0.0) -> Probs:
    """where_none: what is told where there is nothing to divide by, by default 0: no spread, no agreement."""
    spread_D = by_D > 1e-12
    return np.where(spread_D, x_D / np.where(spread_D, by_D, 1.0), where_none)


@dataclass(frozen=True)
class RiskCoverage:
    """What grades are worth if only the surest are given (El-Yaniv, Wiener 2010, JMLR 11).

    One point a confidence that occurs, the highest first: all recordings of at least this one are graded. coverage_K:
    their share; error_rate_K, mae_K: of these alone. area: the error rate's mean over grading the surest one, two, ...
    all; where their order says nothing, about the error rate of all. ideal_area: had each right grade been surer than
    each wrong one.
    """

    confidence_K: Probs
    coverage_K: Probs
    error_rate_K: Probs
    mae_K: Probs
    area: float
    ideal_area: float


def kappa(given_R: Grades, predicted_R: Grades) -> float:
    """Quadratic weighted kappa (Cohen 1968); 0 where either side is constant: that shows no skill.

    With squared weights both the disagreement and the one expected by chance are made of five means (_moments), so
    that thousands of resampled data sets are a few sums; a test holds it against scikit-learn's.
    """
    return float(_kappa(np.stack(_moments(given_R, predicted_R), axis=1).mean(axis=0, keepdims=True))[0])


def _moments(given_R: Grades, predicted_R: Grades) -> list[Probs]:
    """What kappa needs the means of."""
    given, predicted = given_R.astype(np.float64), predicted_R.astype(np.float64)
    return [given, predicted, given**2, predicted**2, given * predicted]


def _kappa(mean_DM: Probs) -> Probs:
    given, predicted, given_2, predicted_2, both = mean_DM.T
    chance = given_2 + predicted_2 - 2 * given * predicted
    # Variances of grades are multiples of 1 / R^2: anything smaller is rounding.
    constant = (given_2 - given**2 < 1e-9) | (predicted_2 - predicted**2 < 1e-9)
    value: Probs = np.where(constant, 0.0, 1 - (given_2 + predicted_2 - 2 * both) / np.where(constant, 1.0, chance))
    return value


def evaluate(
    given_R: Grades, predicted_R: Grades, probs_RG: Probs, group_CR: Sequence[list[str]], seed: int
) -> Metrics:
    """All figures of one grader: its stated grades and the probabilities behind them.

    Intervals are bootstrapped over groups, since two recordings of one performer are not two independent trials. They
    are widened by what a bootstrap of few recordings cannot see, the errors that none of them happened to show:
    accuracy's to the exact one (Clopper-Pearson), and kappa's and the mean distance's to what they would be if as many
    more of the recordings as that allows had been right by chance.
    """
    grades = probs_RG.shape[1]
    right_R, distance_R = given_R == predicted_R, np.abs(given_R - predicted_R)
    rps_R, loss_R = ranked_probability_score(given_R, probs_RG), log_loss(given_R, probs_RG)
    rng = np.random.default_rng(seed)
    mean_DM = bootstrap_means(np.stack([right_R, distance_R, rps_R, *_moments(given_R, predicted_R)], 1), group_CR, rng)
    accuracy, mae, rps = (_figure(mean_D) for mean_D in mean_DM[:, :3].T)
    agreement = _figure(_kappa(mean_DM[:, 3:]))
    exact = binomtest(int(right_R.sum()), len(given_R)).proportion_ci(method="exact")
    by_chance_RR = np.abs(given_R[:, None] - given_R)
    lucky = (
        min(1.0, (accuracy.value - float(exact.low)) / float((by_chance_RR > 0).mean())) if by_chance_RR.any() else 0
    )
    risk = risk_coverage(given_R, predicted_R, stated_probability(probs_RG, predicted_R))
    return Metrics(
        recordings=len(given_R),
        accuracy=accuracy.widened(float(exact.low), float(exact.high)),
        kappa=agreement.widened((1 - lucky) * agreement.value),
        mae=mae.widened((1 - lucky) * mae.value + lucky * float(by_chance_RR.mean())),
        rps=rps,
        log_loss=_figure(bootstrap_means(loss_R[:, None], group_CR, rng)[:, 0]) if np.isfinite(loss_R).all() else None,
        spearman=_spearman(given_R, probs_RG @ np.arange(grades)),
        off_by_two=int((distance_R >= 2).sum()),
        p_value=permutation_p(given_R, predicted_R, group_CR, rng),
        confusion=np.histogram2d(given_R, predicted_R, bins=[np.arange(grades + 1)] * 2)[0].astype(int).tolist(),
        risk_area=risk.area,
        ideal_risk_area=risk.ideal_area,
    )


def stated_probability(probs_RG: Probs, predicted_R: Grades) -> Probs:
    """The confidence of each grade: its own probability, [R]."""
    confidence_R: Probs = probs_RG[np.arange(len(predicted_R)), predicted_R]
    return confidence_R


def risk_coverage(given_R: Grades, predicted_R: Grades, confidence_R: Probs) -> RiskCoverage:
    """Errors among the surest recordings, for every number of them."""
    wrong_R, distance_R = given_R != predicted_R, np.abs(given_R - predicted_R)
    rising_K, place_R, size_K = np.unique(-confidence_R, return_inverse=True, return_counts=True)
    graded_K, graded_R = size_K.cumsum(), np.arange(1, len(given_R) + 1)
    wrong_K, distance_K = np.bincount(place_R, wrong_R), np.bincount(place_R, distance_R)
    even_R = np.repeat(wrong_K / size_K, size_K)  # recordings of one confidence are in no order
    return RiskCoverage(
        confidence_K=-rising_K,
        coverage_K=graded_K / len(given_R),
        error_rate_K=wrong_K.cumsum() / graded_K,
        mae_K=distance_K.cumsum() / graded_K,
        area=float((even_R.cumsum() / graded_R).mean()),
        ideal_area=float((np.sort(wrong_R).cumsum() / graded_R).mean()),
    )


def kappa_difference(
    given_R: Grades, one_R: Grades, other_R: Grades, group_CR: Sequence[list[str]], seed: int
) -> Figure:
    """By how much one grader's kappa lies above another's on the same recordings; both are resampled together."""
    rng = np.random.default_rng(seed)
    moments_RM = np.stack([*_moments(given_R, one_R), *_moments(given_R, other_R)], axis=1)
    mean_DM = bootstrap_means(moments_RM, group_CR, rng)
    half = moments_RM.shape[1] // 2
    return _figure(_kappa(mean_DM[:, :half]) - _kappa(mean_DM[:, half:]))


def mean_difference(one_R: Probs, other_R: Probs, group_CR: Sequence[list[str]], seed: int) -> Figure:
    """By how much the mean of one measure of the recordings lies above another's; both are resampled together."""
    return _figure(bootstrap_means((one_R - other_R)[:, None], group_CR, np.random.default_rng(seed))[:, 0])


def _figure(value_D: Probs) -> Figure:
    """The first is the value, the others are of resampled data sets."""
    low, high = np.percentile(value_D[1:], [2.5, 97.5])
    return Figure(float(value_D[0]), float(low), float(high))


def log_loss(given_R: Grades, probs_RG: Probs) -> Probs:
    """Minus the logarithm of the given grade's probability, in nats, [R]; infinite where that is 0."""
    with np.errstate(divide="ignore"):
        loss_R: Probs = -np.log(probs_RG[np.arange(len(given_R)), given_R])
    return loss_R


def ranked_probability_score(given_R: Grades, probs_RG: Probs) -> Probs:
    """Mean squared distance of the cumulative probabilities from the given grade's (Epstein 1969), [R], 0 to 1: the
    proper score that knows the grades' order."""
    steps = probs_RG.shape[1] - 1
    reached_RG = given_R[:, None] <= np.arange(steps)
    score_R: Probs = ((probs_RG.cumsum(axis=1)[:, :steps] - reached_RG) ** 2).mean(axis=1)
    return score_R


def _spearman(given_R: Grades, score_R: Probs) -> float:
    if np.ptp(given_R) == 0 or np.ptp(score_R) == 0:
        return 0.0
    return float(spearmanr(given_R, score_R).statistic)


def bootstrap_means(x_RM: Probs, group_CR: Sequence[list[str]], rng: np.random.Generator) -> Probs:
    """Means of M measures of each recording, [1 + BOOTSTRAPS, M]: first over all recordings, then over resampled data
    sets: whole groups drawn with replacement, as many as there are.

    Of several columns each is drawn by itself, and a recording counts as often as its performer was drawn, times as
    often as its piece: the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1.2), since there is none that
    is exact where two columns cross, and this one errs towards wide.
    """
    columns = [np.unique(np.array(group_R), return_inverse=True) for group_R in group_CR]
    mean_DM = [x_RM.mean(axis=0)]
    while len(mean_DM) <= BOOTSTRAPS:
        times_R = np.ones(len(x_RM), np.int64)
        for names, group in columns:
            times_R *= np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[group]
        if times_R.any():  # where no drawn performer played a drawn piece nothing can be counted
            mean_DM.append(times_R @ x_RM / times_R.sum())
    return np.stack(mean_DM)


def permutation_p(
    given_R: Grades, predicted_R: Grades, group_CR: Sequence[list[str]], rng: np.random.Generator
) -> float:
    """One-sided p-value of kappa: how often do shuffled labels agree as well? Never below 1/(draws + 1).

    Of several columns the largest is taken: grades may depend on the performer or on the piece.
    """
    observed = kappa(given_R, predicted_R)
    return max(
        float(((_dealt_kappas(given_R, predicted_R, group_R, rng) >= observed).sum() + 1) / (PERMUTATIONS + 1))
        for group_R in group_CR
    )


def confidence_p(right_R: npt.NDArray[np.bool_], confidence_R: Probs, group_CR: Sequence[list[str]]) -> float:
    """One-sided p-value of the right grades' being surer than the wrong ones, by rank; 1 where all are right or wrong.

    A t test over groups: each brings its sum of (rank - mean rank) (right - mean right), which is 0 on average where
    confidence says nothing, however much the recordings of a performer are alike. Of several columns the largest is
    taken. Below nine groups it cannot come down to 0.01.
    """
    lead_R = (rankdata(confidence_R) - (len(right_R) + 1) / 2) * (right_R - right_R.mean())
    if not lead_R.any():
        return 1.0
    p_values = []
    for group_R in group_CR:
        lead_N = np.bincount(np.unique(np.array(group_R), return_inverse=True)[1], lead_R)
        spread = np.sqrt((lead_N**2).sum())
        p_values.append(float(t.sf(lead_N.sum() / spread, len(lead_N) - 1)) if spread else 1.0)
    return max(p_values)


def chance_kappa(given_R: Grades, group_CR: Sequence[list[str]], seed: int) -> float:
    """The kappa up to which nothing can be told from chance (p above 0.05) on these recordings, for a grader that
    states each grade as often as it was given."""
    rng = np.random.default_rng(seed)
    place = int(ONE_IN_TWENTY * (PERMUTATIONS + 1)) - 1  # so many of chance's may lie above
    return max(float(np.sort(_dealt_kappas(given_R, given_R, group_R, rng))[::-1][place]) for group_R in group_CR)


def _dealt_kappas(given_R: Grades, predicted_R: Grades, group_R: list[str], rng: np.random.Generator) -> Probs:
    """Kappas of PERMUTATIONS shuffles of the labels.

    Each group gets the labels of a group drawn for it, in any order, repeated or cut to its own size: a performer's
    recordings are mostly graded alike, and shuffling labels one by one would make chance look weaker than it is.
    """
    _, group = np.unique(np.array(group_R), return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    given, predicted, group = given_R[by_group], predicted_R[by_group], group[by_group]
    size_N = np.bincount(group)
    start_N = np.cumsum(size_N) - size_N
    place_R = np.arange(len(group)) - start_N[group]
    found: list[Probs] = []
    while (left := PERMUTATIONS - sum(map(len, found))) > 0:
        draws = min(left, max(1, DEALT_AT_ONCE // len(group)))
        within_DR = np.argsort(group + rng.random((draws, len(group))), axis=1)  # shuffled within each group
        donor_DR = rng.permuted(np.tile(np.arange(len(size_N)), (draws, 1)), axis=1)[:, group]
        dealt_DR = given[np.take_along_axis(within_DR, start_N[donor_DR] + place_R % size_N[donor_DR], axis=1)]
        mean_MD = [x.mean(axis=-1) for x in _moments(dealt_DR, np.broadcast_to(predicted, dealt_DR.shape))]
        found.append(_kappa(np.stack(mean_MD, axis=1)))
    return np.concatenate(found)


def conclusion(metrics: Metrics, majority_accuracy: float, by_chance: float) -> str:
    """What can be said of this grader, in plain sentences. by_chance: chance_kappa of its recordings."""
    n = metrics.recordings
    limit = f"On these recordings a kappa of {by_chance:.2f} or less is not distinguishable from chance."
    if metrics.p_value > SIGNIFICANT:
        return (
            f"On {n} recordings this grader cannot be told from chance (p = {metrics.p_value:.2f}): "
            f"do not rely on its grades; label more recordings by more performers. {limit}"
        )
    few = " With so few recordings the interval is wide: treat it as a first sign." if n < 60 else ""
    better = "above" if metrics.accuracy.low > majority_accuracy else "not surely above"
    return (
        f"On {n} recordings this grader agrees with the given grades better than chance ({_told_p(metrics.p_value)}), "
        f"its accuracy {better} the majority's {majority_accuracy:.2f}.{few} {limit}"
    )


def _told_p(p: float) -> str:
    """For people, to whom p = 0.000 says that chance is ruled out."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def beyond_chance(gain_R: npt.NDArray[np.float64], group_R: Sequence[str]) -> bool:
    """Is the mean gain of the groups larger than its standard error? Of one group it never is.

    gain_R: of recordings, by what one way of grading is better than a simpler one. After Breiman's rule of one standard
    error: of two that a few recordings cannot tell apart, take the simpler one.
    """
    names, group = np.unique(np.array(group_R), return_inverse=True)
    gain_P = np.bincount(group, gain_R) / np.bincount(group)
    return len(names) > 1 and bool(gain_P.mean() > gain_P.std(ddof=1) / np.sqrt(len(names)))
