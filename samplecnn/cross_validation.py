"""One training of a cross-validation: what a network says of recordings that it was not trained on.

The part that costs time, and nothing else: which recordings those are is decided in folds.py, where it runs in
pipelines/, how sure it may be in calibration.py, how good it is in evaluation.py.
"""

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.batches import RecordingSet, held_back, thinned
from samplecnn.calibration import Heard
from samplecnn.fit import fit
from samplecnn.hearing import Hearing
from samplecnn.infer import hear
from samplecnn.merge import MergeRule, SegmentOutputs
from samplecnn.merging import Merging, attention_beside, by_the_mean, enough, learn_to_merge, too_few
from samplecnn.network.folded import folded
from samplecnn.ordinal import HEADS
from samplecnn.recipe import FitSettings
from samplecnn.starter import Starter, new_network
from samplecnn.tempo import course_of

log = logging.getLogger(__name__)

MOST_HEARD = 2000  # recordings that a merge rule is fitted on
MOST_ASKED = 400  # recordings that tell whether a starter hears what labels say


@dataclass(frozen=True)
class HeldOut:
    """heard: by the name of each recording held out, None where the network gave no numbers; beside: the same of
    recordings that it learnt from, those asked for; train_loss: of the last epoch; best_epoch: whose weights were kept;
    merging: what was learnt of it; cpu_s: of this process, training and listening together."""

    heard: dict[str, Heard | None]
    beside: dict[str, Heard | None]
    train_loss: float
    best_epoch: int
    merging: Merging
    cpu_s: float


def hold_out(
    network: Hearing,
    recordings: RecordingSet,
    learn: npt.NDArray[np.int64],
    held: npt.NDArray[np.int64],
    settings: FitSettings,
    *,
    head: str,
    seed: int,
    device: torch.device,
    started: bool = False,
    beside: Sequence[int] | npt.NDArray[np.int64] = (),
) -> HeldOut:
    """Train a network on some recordings (row numbers) and hear others. started: all of it is a starter's; beside: of
    what is learnt from, what is to be heard too (set_pieces.py).

    What is learnt from holds back its own recordings for early stopping, as `train` does: nothing is chosen on those
    that are heard.
    """
    begun = time.process_time()
    train, valid = held_back(recordings.subset(learn), seed, train_on_all=settings.train_on_all)
    starter = copy.deepcopy(network) if started else None
    train_loss, best_epoch = math.nan, 0
    for report in fit(network, train, valid, settings, seed=seed, device=device, head=head, started=started):
        train_loss, best_epoch = report.train_loss, report.epoch if report.best else best_epoch
    merging = merging_after(
        network, starter, recordings.subset(learn), valid, best_epoch, head=head, seed=seed, device=device
    )
    log.info("merge: %s", merging.why)
    heard, known = (
        {recordings.names[i]: _by(merging.rule, listen(network, recordings, int(i), device)) for i in rows}
        for rows in (held, beside)
    )
    return HeldOut(heard, known, train_loss, best_epoch, merging, time.process_time() - begun)


def merging_after(
    network: Hearing,
    starter: Hearing | None,
    learn: RecordingSet,
    valid: RecordingSet | None,
    best_epoch: int,
    *,
    head: str,
    seed: int,
    device: torch.device,
) -> Merging:
    """What the recordings that were learnt from teach of merging, now that the network is trained.

    It must be learnt from what was said of recordings by a network that was not trained on them, or the rule trusts it
    too much: by the network on all, where it still is the starter (best_epoch is 0); by the starter as it was, where
    training has left it; where there was none, by the network on those that were held back. What attention is worth
    they tell too.
    """
    if best_epoch == 0:
        found = merging_of(network, learn, head, seed, device)
    elif starter is not None:
        found = merging_of(starter.to(device).eval(), learn, head, seed, device)
    else:
        found = merging_of(network, valid, head, seed, device)
    if network.attention is None:
        return found
    if valid is None:
        return attention_beside(found, [], np.zeros(0), [])
    return attention_beside(found, *_segments(network, valid, head, device))


def merging_of(
    network: Hearing, recordings: RecordingSet | None, head: str, seed: int, device: torch.device
) -> Merging:
    """What a network's say of these recordings, which it was not trained on, teaches of merging (merging.py).

    More than MOST_HEARD of them are thinned out evenly: a dozen numbers need no more.
    """
    if recordings is None:
        return by_the_mean("no recording was held back from training")
    if not enough(recordings.groups):  # known before anything is heard
        return too_few(recordings.groups)
    told = recordings.subset(thinned(len(recordings), MOST_HEARD))
    return learn_to_merge(*_segments(network, told, head, device), seed)


def _segments(
    network: Hearing, recordings: RecordingSet, head: str, device: torch.device
) -> tuple[list[SegmentOutputs], npt.NDArray[np.float64], list[str]]:
    """What a network says of the recordings for which it has numbers, and their ranks and groups."""
    heard = {i: listen(network, recordings, i, device) for i in range(len(recordings))}
    told = {i: one for i, one in heard.items() if one}
    segments_R = [one.segments(_probs(one, head)) for one in told.values()]
    return segments_R, recordings.ranks(list(told)).astype(np.float64), [recordings.groups[i] for i in told]


def _probs(heard: Heard, head: str) -> npt.NDArray[np.float64]:
    probs_SG: npt.NDArray[np.float64] = HEADS[head].probs(torch.from_numpy(heard.outputs_SO)).numpy()
    return probs_SG


def _by(rule: MergeRule, heard: Heard | None) -> Heard | None:
    return heard and replace(heard, rule=rule)


def listen(network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Heard | None:
    """What a trained network says of a recording; None where it gives no numbers."""
    windows, waveform_T, gain = recordings.windows(i), recordings.waveform(i), float(recordings.gain_R[i])
    said = hear(network, waveform_T, gain, windows, device)
    if not (torch.isfinite(said.outputs_SO).all() and torch.isfinite(said.attention_S).all()):
        return None
    course_C = course_of(waveform_T, recordings.active_RF[i], gain, recordings.settings.sample_rate)
    attention_S = said.attention_S.double().numpy()
    return Heard(said.outputs_SO.numpy(), windows.activity_S, windows.start_s, course_C, attention_S)


def said_by_starter(
    starter: Starter, recordings: RecordingSet, settings: NetworkSettings, grades: int
) -> dict[str, SegmentOutputs]:
    """What the starter as it is makes of each recording, by name; none where it gives no numbers."""
    rate, plan = recordings.settings.sample_rate, plan_for(recordings.settings.segment_samples, settings)
    network = folded(new_network(settings.network, plan, rate, grades, settings.head, starter, seed=0)[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # bits hang on their number, and a choice may
    try:
        heard = {
            recordings.names[i]: listen(network, recordings, i, torch.device("cpu")) for i in range(len(recordings))
        }
    finally:
        torch.set_num_threads(threads)
    return {name: one.segments(_probs(one, settings.head)) for name, one in heard.items() if one}
