"""evaluate: cross-validation, one Ray task a fold; predictions pooled once a recording, baselines on the same folds."""

import logging
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import ray
import torch

from samplecnn import fit as fitting
from samplecnn.baselines import BASELINES, FEATURE_COLUMNS, majority, outer_features
from samplecnn.contract import METRICS_CSV, RECORDING
from samplecnn.errors import RecordingError
from samplecnn.evaluation import MAJORITY, EvaluationSettings, Task, score_graders
from samplecnn.flags import settings_dict
from samplecnn.folds import grouped_folds
from samplecnn.infer import Grader
from samplecnn.labels import LabelSettings
from samplecnn.model_folder import ModelCard
from samplecnn.network import plan_for
from samplecnn.pipelines.labelled import Labelled, labelled
from samplecnn.pipelines.runtime import Progress, ray_session
from samplecnn.pipelines.train import new_network, recording_set, split
from samplecnn.recipe import FitSettings
from samplecnn.store import open_store

log = logging.getLogger(__name__)

MODEL = "SampleCNN"
FOLD_RETRIES = 3  # a fold's worker may be lost; the fold is computed again, with the same result

Probs = npt.NDArray[np.float64]


def evaluate(
    segments: str,
    labels: str,
    evaluation: str,
    label_settings: LabelSettings,
    settings: EvaluationSettings,
    fit_settings: FitSettings,
    *,
    seed: int,
    workers: int | None = None,
) -> str:
    """Cross-validate the model that `train` would train; writes metrics and predictions, returns the table.

    Each fold holds back its own validation recordings for early stopping, so that nothing is chosen on the fold that
    is predicted. Raises UserError for labels that cannot be learned from or split.
    """
    store = open_store(evaluation)  # a wrong place is refused now, not after the last fold
    data = labelled(segments, labels, label_settings)
    fold_R = grouped_folds(data.grade_R, data.group_R, settings.folds, seed)
    task = Task(data.recordings, data.grade_R, data.group_R, fold_R, data.grades)
    log.info("%d recordings in %d groups, %d folds", len(data.recordings), len(set(data.group_R)), settings.folds)
    probs: dict[str, Probs] = dict(_baselines(data, fold_R))
    with ray_session(workers):
        shared = ray.put(data)
        gpu = int("GPU" in ray.cluster_resources())  # type: ignore[no-untyped-call]
        pending = [
            _predict_fold.options(num_gpus=gpu).remote(shared, fold_R, fold, fit_settings, seed)
            for fold in range(settings.folds)
        ]
        probs[MODEL] = np.zeros((len(data.recordings), len(data.grades)))
        progress = Progress(settings.folds, " fold")
        while pending:
            ready, pending = ray.wait(pending)
            for fold, predicted in ray.get(ready):
                probs[MODEL][fold_R == fold] = predicted
                progress.add()
        progress.close()
    described: dict[str, Any] = {
        "segments": settings_dict(data.folder.settings),
        "labels": settings_dict(label_settings),
        "evaluation": settings_dict(settings),
        "fit": settings_dict(fit_settings),
        "network": str(plan_for(data.folder.settings.segment_samples)),
        "seed": seed,
    }
    result = score_graders(task, probs, MODEL, described, seed)
    for name, content in result.files().items():
        store.put(name, content)
    return f"{result.table()}\n\nwritten to {store.url(METRICS_CSV)} and beside it"


def _baselines(data: Labelled, fold_R: npt.NDArray[np.int32]) -> dict[str, Probs]:
    folder = data.folder
    rows: pa.Table = ds.dataset(folder.paths, filesystem=folder.filesystem, format="parquet").to_table(
        columns=FEATURE_COLUMNS, filter=ds.field(RECORDING).isin(data.recordings)
    )
    features = outer_features(rows, data.recordings)
    grades = len(data.grades)
    probs = {MAJORITY: majority(data.grade_R, grades)}
    for name, baseline in BASELINES.items():
        probs[name] = np.zeros((len(data.recordings), grades))
        for fold in sorted(set(fold_R.tolist())):
            held = fold_R == fold
            probs[name][held] = baseline(features[~held], data.grade_R[~held], features[held], grades)
    return probs


@ray.remote(num_cpus=1, max_retries=FOLD_RETRIES)
def _predict_fold(
    data: Labelled, fold_R: npt.NDArray[np.int32], fold: int, settings: FitSettings, seed: int
) -> tuple[int, Probs]:
    """Train without a fold and predict its recordings: (fold, probabilities of its recordings in their order)."""
    torch.set_num_threads(1)  # one core a fold, and the same result however many run at once
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = recording_set(data, folder)
        fold_of = dict(zip(data.recordings, fold_R.tolist(), strict=True))
        held = np.array([fold_of[name] == fold for name in recordings.names])
        learn, check = split(recordings.subset(np.flatnonzero(~held)), seed)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = new_network(data.folder.settings, len(data.grades), seed)
        for _ in fitting.fit(network, learn, check, settings, seed=seed, device=device):
            pass
        card = ModelCard(plan=network.plan, settings=data.folder.settings, grades=data.grades)
        grader = Grader(card, network, device)
        share_G = np.bincount(learn.grade_R, minlength=len(data.grades)) / len(learn)
        return fold, np.stack(
            [
                _probabilities(grader, recordings, name, share_G)
                for name, own in zip(data.recordings, fold_R, strict=True)
                if own == fold
            ]
        )


def _probabilities(grader: Grader, recordings: Any, name: str, share_G: Probs) -> Probs:
    """The model's probabilities for one recording; the training shares where it is too silent to be graded."""
    if name not in recordings.names:
        return share_G
    i = recordings.names.index(name)
    try:
        graded = grader.grade(recordings.waveform(i), recordings.active_RF[i])
    except RecordingError:
        return share_G
    return share_G if graded.merged is None else graded.merged.probs_G
