"""Does a grader know when it does not know? (Takes minutes: not part of the default run.)

Question: on 156 generated recordings by 52 performers, held out by performer, how many grades are wrong where only the
surest are given, where does the least confidence come to lie, and what does it keep back? Baselines: rhythm statistics
with logistic regression, and for each grader the area of an order that says nothing (its error rate). Ceiling: the area
that the same grades would have, had each right one been surer than each wrong one. Noise guard: as in trials.py.

    python -m benchmarks risk

What is not graded is decided for each recording by those of the other folds, as `evaluate` reports it.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Table
from benchmarks.trials import JOINED, RHYTHM, Trial, run_trials
from samplecnn.baselines import ONSETS
from samplecnn.evaluation import NETWORKS
from samplecnn.metrics import risk_coverage
from samplecnn.performances.corpus import GRADES
from samplecnn.recipe import FitSettings

COVERAGES = (1.0, 0.8, 0.6, 0.4, 0.2)
GRADERS = (ONSETS, RHYTHM, JOINED)
HELD_OUT = Trial(156, folds=3, fit=FitSettings())
QUICK = Trial(15, folds=2, fit=FitSettings(epochs=1, crops=1))


def run(quick: bool) -> list[Table]:
    """One row a grader."""
    trials = [replace(QUICK if quick else HELD_OUT, grader=grader) for grader in (GRADERS[:2] if quick else GRADERS)]
    rows: list[tuple[str | float, ...]] = []
    for trial, done in zip(trials, run_trials(trials), strict=True):
        curve = risk_coverage(done.given_R, done.stated_R, done.confidence_R)
        at = np.searchsorted(curve.coverage_K, np.array(COVERAGES) - 1e-9)  # the least that reaches it
        wrong_R = done.given_R != done.stated_R
        asked = trial.grader in NETWORKS
        figures = (f"{curve.area:.2f}", f"{curve.ideal_area:.2f}", f"{done.least_confidence:.2f}" if asked else "-")
        kept_back = _left(wrong_R[~done.graded_R]) if asked else "-"
        left = (kept_back, _left(wrong_R[done.confidence_R < 1 / len(GRADES)]))
        rows.append((trial.grader, *(f"{rate:.2f}" for rate in curve.error_rate_K[at]), *figures, *left, done.cpu_s))
    share = [f"wrong of {coverage:.0%}" for coverage in COVERAGES]
    columns = (
        "grader",
        *share,
        "area",
        "ideal",
        "least confidence",
        "not graded",
        "less sure than equal shares",
        "CPU s",
    )
    return [Table("Errors among the surest, held out by performer", columns, rows)]


def _left(wrong_R: npt.NDArray[np.bool_]) -> str:
    return f"{len(wrong_R)} ({int(wrong_R.sum())} wrong)"
