"""Does the starter hear what labels say, and do labels that say something else show it? (Takes minutes.)

Question: the rank correlation by which `train` and `evaluate` choose between the starter and a start from nothing
(samplecnn/starting.py), and what they choose: on generated recordings whose performers and pieces the starter never
met; on those whose grades no segment tells, only the course of the whole; and where grades are dealt anew to the
performers, so that there is nothing to hear. Of real pianists: python -m benchmarks.people, which says it of each fold.
Noise guard: 95 % intervals over performers.

    python -m benchmarks starting
"""

import tempfile
from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.trials import CORPORA, GLOBAL, LARGE, dealt_anew, generated
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.cross_validation import said_by_starter
from samplecnn.hearing import own_threads
from samplecnn.recipe import FitSettings
from samplecnn.starter import starter_for
from samplecnn.starting import LEAST_AGREEMENT, hearing_of, is_deaf, tell_enough

RATE, SAMPLES = 500, 5000
GRADES = 3
CASES = ((LARGE, False), (LARGE, True), (156, False), (GLOBAL, False))
QUICK = ((15, False),)


def run(quick: bool) -> list[Table]:
    """One row a corpus."""
    own_threads(1)
    rows = [_row(count, shuffled) for count, shuffled in (QUICK if quick else CASES)]
    columns = ("recordings", "performers", "grades follow", "rank correlation", "training starts from")
    return [Table(f"What the starter hears; from nothing below {LEAST_AGREEMENT}, surely", columns, rows)]


def _row(count: int, shuffled: bool) -> tuple[str | float, ...]:
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        corpus = generated(count, RATE, SAMPLES, folder)
        performers = [planned.performer for planned in corpus.planned]
        recordings = corpus.recordings
        if shuffled:
            recordings = replace(recordings, grade_R=dealt_anew(recordings.grade_R, performers, 0))
        starter = starter_for(FitSettings().init, RATE, plan_for(SAMPLES))
        assert starter is not None
        said = said_by_starter(starter, recordings, NetworkSettings(), GRADES)
        hearing = hearing_of(
            [said.get(name) for name in recordings.names],
            recordings.ranks(range(count)).astype(float),
            [planned.piece for planned in corpus.planned],
            [performers],
        )
    how = "nothing: dealt anew" if shuffled else f"faults: {CORPORA[count].faults}"
    deaf = tell_enough([performers]) and is_deaf(hearing)
    return count, len(set(performers)), how, str(hearing), "nothing" if deaf else "the starter"
