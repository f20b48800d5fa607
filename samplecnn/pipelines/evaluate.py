"""evaluate: cross-validation, one Ray task a fit; predictions pooled once a recording, baselines on the same folds."""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import ray

from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, ONSETS, OUTER, held_out_logistic, majority
from samplecnn.baselines.log_mel import LogMelCNN, log_mel_features
from samplecnn.baselines.onsets import onset_features
from samplecnn.baselines.outer import FEATURE_COLUMNS, outer_features
from samplecnn.batches import RecordingSet
from samplecnn.calibration import Calibrated, Heard, Played, calibrate, stated_by_shares
from samplecnn.contract import METRICS_CSV, METRICS_JSON, RECORDING
from samplecnn.cross_validation import HeldOut, hold_out
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import (
    COMPARED,
    MAJORITY,
    NETWORKS,
    Evaluation,
    EvaluationSettings,
    Model,
    Predicted,
    Task,
    evaluation_files,
    score_graders,
)
from samplecnn.flags import settings_dict
from samplecnn.folds import Split, splits
from samplecnn.hearing import Hearing, own_device, own_threads
from samplecnn.labels import LabelSettings
from samplecnn.merge import DEFAULT_MERGE
from samplecnn.merging import Merging
from samplecnn.pipelines.labelled import Labelled, labelled, lacking, recording_set
from samplecnn.pipelines.progress import Progress
from samplecnn.pipelines.runtime import ray_session
from samplecnn.pipelines.ways import Chooser, Chosen
from samplecnn.recipe import NO_STARTER, SEGMENTS, FitSettings, Way
from samplecnn.set_pieces import PieceCalibration, telling
from samplecnn.starter import Starter, new_network
from samplecnn.store import Store, open_store

log = logging.getLogger(__name__)

UNSTARTED = ", no starter"  # after the model's name: the same network from nothing, to show what the starter brings
BY_PIECE = ", piece given"  # and judged beside others of its piece (set_pieces.py)
BY_MEAN = ", mean of segments"  # the same again without what the whole recording tells
FEATURES = {LOG_MEL: log_mel_features, ONSETS: onset_features}
PROBE = "evaluation.probe"  # written and removed before any work; one that a kill left behind is written over
FOLD_RETRIES = 3  # a fold's worker may be lost; the fold is computed again, with the same result

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Pooled:
    """What a network said, one HeldOut a split; rule: by which its recordings are merged, None: as each split chose."""

    held_K: list[HeldOut]
    rule: str | None = None

    @property
    def heard(self) -> dict[str, Heard | None]:
        """Each recording, by name, while it was held out."""
        return {name: self._merged(held, one) for held in self.held_K for name, one in held.heard.items()}

    @property
    def merging(self) -> dict[str, Merging]:
        """What was learnt of merging without a recording, by its name."""
        return {name: held.merging for held in self.held_K for name in held.heard}

    @property
    def cpu_s(self) -> float:
        """Of all splits."""
        return sum(held.cpu_s for held in self.held_K)

    def played(self, data: Labelled) -> Played:
        """Beside what each split's recordings are judged."""
        row = {name: i for i, name in enumerate(data.judged)}
        learnt_K = [
            {row[name]: told for name, one in held.beside.items() if (told := self._merged(held, one))}
            for held in self.held_K
        ]
        return Played(data.piece_R, learnt_K)

    def _merged(self, held: HeldOut, one: Heard | None) -> Heard | None:
        return replace(one, rule=held.merging.rules[self.rule]) if one and self.rule else one


def evaluate(
    segments: Sequence[str],
    labels: str,
    evaluation: str,
    label_settings: LabelSettings,
    settings: EvaluationSettings,
    network_settings: NetworkSettings,
    fit_settings: FitSettings,
    *,
    seed: int,
    otherwise: Way | None = None,
    workers: int | None = None,
) -> str:
    """Cross-validate the model that `train` would train; writes metrics and predictions, returns the table.

    segments: one place, or several of different sample rates (a sweep). Each fold holds back its own validation
    recordings for early stopping, so that nothing is chosen on the fold that is predicted; nor is the way in which the
    model is trained, which is `otherwise` where the labels that a fold learns from show that the starter does not hear
    what they say (the networks beside it go by all labels). Raises UserError for labels that cannot be learned from or
    split, and for a network that does not fit the segments.
    """
    store = open_store(evaluation)
    data_by_rate: dict[int, Labelled] = {}
    for place in segments:
        data = labelled(place, labels, label_settings)
        plan_for(data.folder.settings.segment_samples, network_settings)  # refused now, not in a worker
        rate = data.folder.settings.sample_rate
        if rate in data_by_rate:
            raise UserError(f"--segments {place}: another one has {rate} Hz too: name one a sample rate")
        data_by_rate[rate] = data
    parted = {rate: splits(d.grade_R, d.group_CR, settings.folds, seed) for rate, d in data_by_rate.items()}
    _require_writable(store)
    asked = Way(network_settings, fit_settings)
    choosers = {rate: Chooser(data, asked, otherwise) for rate, data in sorted(data_by_rate.items())}
    evaluations = []
    with ray_session(workers):
        for rate, data in sorted(data_by_rate.items()):
            log.info("%d Hz: %d recordings, %d splits", rate, len(data.recordings), len(parted[rate]))
            evaluations.append(_evaluated(data, parted[rate], label_settings, settings, choosers[rate], seed))
    store.put(METRICS_JSON, b"{}\n")  # an earlier evaluation's must not speak for tables of this one
    for name, content in evaluation_files(evaluations).items():
        store.put(name, content)
    tables = "\n\n".join(evaluation.table() for evaluation in evaluations)
    return f"{tables}\n\nwritten to {store.url(METRICS_CSV)} and beside it"


def _require_writable(store: Store) -> None:
    """Raises UserError where nothing can be written: now, not after the last fold. Takes the permissions that the
    results take.
    """
    store.put(PROBE, b"")
    store.delete(PROBE)


def _evaluated(
    data: Labelled,
    parted: list[Split],
    label_settings: LabelSettings,
    settings: EvaluationSettings,
    chooser: Chooser,
    seed: int,
) -> Evaluation:
    """All graders on the segments of one sample rate."""
    grades, fold_R = len(data.grades), np.zeros(len(data.recordings), np.int32)
    for number, split in enumerate(parted):
        fold_R[split.held_R] = number
    segments, whole = data.folder.settings, chooser.chosen()
    (network_settings, fit_settings), starter, why = whole
    shared = ray.put(data)
    features = {name: _features.remote(shared, name) for name in FEATURES}
    chosen_K = [chooser.chosen(np.flatnonzero(split.learn_R)) for split in parted]
    if others := sum(chosen.way != whole.way for chosen in chosen_K):
        log.warning("in %d of %d splits the labels that are left choose another way to train", others, len(parted))
    heard = _heard(shared, data, parted, whole, chosen_K, seed)
    started = time.process_time()
    outer_RF = outer_features(_columns(data), data.folder.recordings, data.recordings)
    outer_cpu_s = time.process_time() - started
    commonest_RG = majority(data.grade_R, grades)
    predicted = {
        MAJORITY: Predicted(commonest_RG, commonest_RG.argmax(axis=1), 0.0),
        OUTER: _regressed(data, parted, outer_RF, outer_cpu_s),
        **{name: _regressed(data, parted, *ray.get(of_name)) for name, of_name in features.items()},
    }
    calibrating = (data.grade_R, data.group_CR, parted, grades, network_settings.head, data.marks)
    for name, pooled in heard.items():
        predicted[name] = _calibrated(calibrate(_in_order(pooled, data), *calibrating), pooled.cpu_s)
    name = _grader(network_settings)
    # Of networks that were trained in different ways none has learnt another's rule.
    merge = DEFAULT_MERGE if others else _most_chosen(heard[name])
    # The model that is trained on all has one rule: what it is calibrated by must have been merged by the same.
    by_rule = replace(heard[name], rule=merge)
    heard_R = _in_order(by_rule, data)
    of_model = calibrate(heard_R, *calibrating)
    pieces = None
    if any(data.piece_R):
        found = calibrate(_in_order(heard[name], data), *calibrating, heard[name].played(data))
        if found.beside_R.any():  # else pieces are what the splits keep apart
            predicted[name + BY_PIECE] = _calibrated(found, heard[name].cpu_s)
            of_piece = calibrate(heard_R, *calibrating, by_rule.played(data))
            pieces = PieceCalibration(tuple(of_piece.cuts_K.tolist()), of_piece.least_confidence, of_piece.marks)
    model = Model(
        name,
        data.fingerprint(network_settings, fit_settings, starter),
        merge,
        of_model.temperature,
        tuple(of_model.cuts_K.tolist()),
        of_model.least_confidence,
        of_model.marks,
        pieces,
    )
    chosen = Counter(merging.chosen for merging in heard[name].merging.values())
    told = ", ".join(f"{rule} ({count} recordings)" for rule, count in sorted(chosen.items()))
    log.info("%s, while it was held out, was merged by %s; the model on all is by %s", name, told, merge)
    described = {
        "segments": settings_dict(data.folder.settings),
        "labels": settings_dict(label_settings),
        "evaluation": settings_dict(settings),
        "network": settings_dict(network_settings),
        "fit": settings_dict(fit_settings),
        "starter": starter.id if starter else NO_STARTER,
        "starter_hears": why,
        "splits_trained_in_another_way": others,
        "merge": told,
        "seed": seed,
    }
    task = Task(
        data.recordings,
        data.grade_R,
        data.group_CR,
        fold_R,
        data.grades,
        segments.sample_rate,
        seed,
        data.agreement,
        data.marks.mark_R if data.marks else None,
        data.part_R if any(data.part_R) else None,
    )
    return score_graders(task, predicted, model, described)


def _calibrated(found: Calibrated, cpu_s: float) -> Predicted:
    return Predicted(found.probs_RG, found.grade_R, cpu_s, found.graded_R, found.mark_RM)


def _heard(
    shared: "ray.ObjectRef[Labelled]",
    data: Labelled,
    parted: list[Split],
    whole: Chosen,
    chosen_K: list[Chosen],
    seed: int,
) -> dict[str, _Pooled]:
    """What each network said of each recording while it was held out, all splits together.

    The model is trained in each split as that split's own labels choose (chosen_K), the networks beside it as all
    labels do.
    """
    gpu = int("GPU" in ray.cluster_resources())  # type: ignore[no-untyped-call]
    task = _hold_out.options(num_gpus=gpu)
    model = _grader(whole.way.network)
    names = [LOG_MEL_CNN, *(name for name in NETWORKS if name in (*COMPARED, model))]
    if whole.starter:
        names.append(model + UNSTARTED)
    reference = {chosen.way: ray.put(chosen) for chosen in {one.way: one for one in (whole, *chosen_K)}.values()}
    unstarted = ray.put(whole._replace(starter=None))
    fits = [(name, number) for name in reversed(names) for number in range(len(parted))]  # the long ones first
    done = []
    for name, number in fits:
        way = chosen_K[number].way if name == model else whole.way
        network = _grader(way.network) if name == model else name.removesuffix(UNSTARTED)
        chosen = unstarted if name.endswith(UNSTARTED) else reference[way]
        done.append(task.remote(shared, parted[number], network, chosen, seed, name == model))
    held: dict[ray.ObjectRef[HeldOut], HeldOut] = {}
    progress, pending = Progress(len(done), " fit"), done
    while pending:
        ready, pending = ray.wait(pending)
        held |= zip(ready, ray.get(ready), strict=True)
        progress.add(len(ready))
    progress.close()
    held_by_name: dict[str, list[HeldOut]] = {name: [] for name in names}
    for (name, _), one in zip(fits, done, strict=True):  # in the order of the splits, not of their ends
        held_by_name[name].append(held[one])
    pooled = {name: _Pooled(held_K) for name, held_K in held_by_name.items()}
    if all(found.chosen == DEFAULT_MERGE for found in pooled[model].merging.values()):
        return pooled
    return pooled | {model + BY_MEAN: replace(pooled[model], rule=DEFAULT_MERGE)}


def _in_order(pooled: _Pooled, data: Labelled) -> list[Heard | None]:
    heard = pooled.heard
    return [heard.get(recording) for recording in data.judged]


def _most_chosen(pooled: _Pooled) -> str:
    """The rule that most splits chose, by recording, if every split has fitted it; else the mean, which needs none."""
    chosen = Counter(merging.chosen for merging in pooled.merging.values()).most_common(1)[0][0]
    return chosen if all(chosen in merging.rules for merging in pooled.merging.values()) else DEFAULT_MERGE


def _columns(data: Labelled) -> pa.Table:
    folder = data.folder
    return ds.dataset(folder.paths, filesystem=folder.filesystem, format="parquet").to_table(
        columns=FEATURE_COLUMNS, filter=ds.field(RECORDING).isin(data.recordings)
    )


def _regressed(data: Labelled, parted: list[Split], features_RF: Float64, cpu_s: float) -> Predicted:
    """A logistic regression's predictions from these features. cpu_s: what the features cost."""
    started = time.process_time()
    probs_RG = held_out_logistic(features_RF, data.grade_R, parted, len(data.grades))
    stated_R = stated_by_shares(probs_RG, data.grade_R, parted)
    return Predicted(probs_RG, stated_R, cpu_s + time.process_time() - started)


def _learnable(data: Labelled, folder: str) -> RecordingSet:
    """labelled.recording_set. Raises JobError where nothing can be learnt from it."""
    found = recording_set(data, folder)
    if why := lacking(found):
        raise JobError(why)
    return found


def _rows_of(data: Labelled, recordings: RecordingSet) -> npt.NDArray[np.int64]:
    """Where the recordings that were read stand among all labelled ones: silent ones are left out of the set."""
    row = {recording: i for i, recording in enumerate(data.judged)}
    return np.array([row[recording] for recording in recordings.names], np.int64)


@ray.remote(num_cpus=1, max_retries=FOLD_RETRIES)
def _features(data: Labelled, name: str) -> tuple[Float64, float]:
    """The features of all recordings that a linear grader hears, those of silent ones NaN; and what they cost in CPU
    seconds."""
    own_threads(1)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = _learnable(data, folder)
        started = time.process_time()
        found_RF = FEATURES[name](recordings)
        features_RF = np.full((len(data.recordings), found_RF.shape[1]), np.nan)
        features_RF[_rows_of(data, recordings)] = found_RF
        return features_RF, time.process_time() - started


@ray.remote(num_cpus=1, max_retries=FOLD_RETRIES)
def _hold_out(
    data: Labelled,
    split: Split,
    name: str,
    chosen: Chosen,
    seed: int,
    beside: bool,
) -> HeldOut:
    """Train one network without what a split holds out, and hear that. beside: and what tells pieces."""
    (network_settings, settings), starter, _ = chosen
    own_threads(1)  # one core a fit, and the same result however many run at once
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = _learnable(data, folder)
        rows_R = _rows_of(data, recordings)
        if name == LOG_MEL_CNN:
            settings = replace(settings, learn_from=SEGMENTS)  # a baseline, as published
        network, started = _network(name, data, network_settings, starter, seed, settings.attention)
        learn = np.flatnonzero(split.learn_R[rows_R])
        return hold_out(
            network,
            recordings,
            learn,
            np.flatnonzero(split.held_R[rows_R]),
            settings,
            head=network_settings.head,
            seed=seed,
            device=own_device(),
            started=started,
            beside=telling([data.piece_R[row] for row in rows_R], learn) if beside else (),
        )


def _network(
    name: str, data: Labelled, network_settings: NetworkSettings, starter: Starter | None, seed: int, attention: bool
) -> tuple[Hearing, bool]:
    """A network to fit, and whether all of it is the starter's."""
    segments, grades, head = data.folder.settings, len(data.grades), network_settings.head
    samples, rate = segments.segment_samples, segments.sample_rate
    if name == LOG_MEL_CNN:
        return LogMelCNN(samples, rate, grades, head, seed), False
    plan = plan_for(samples, network_settings)
    return new_network(NETWORKS[name], plan, rate, grades, head, starter, seed, attention=attention)


def _grader(network_settings: NetworkSettings) -> str:
    """The name of the model that `train` would train."""
    return next(grader for grader, network in NETWORKS.items() if network == network_settings.network)
