"""One training of a cross-validation: what a network says of recordings that it was not trained on.

The part that costs time, and nothing else: which recordings those are is decided in folds.py, where it runs in
pipelines/, how sure it may be in calibration.py, how good it is in evaluation.py.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from samplecnn.batches import RecordingSet, held_back
from samplecnn.calibration import Heard
from samplecnn.fit import fit
from samplecnn.hearing import Hearing
from samplecnn.infer import hear
from samplecnn.recipe import FitSettings


@dataclass(frozen=True)
class HeldOut:
    """heard: by the name of each recording held out, None where the network gave no numbers; train_loss: of the last
    epoch; best_epoch: whose weights were kept; cpu_s: of this process, training and listening together."""

    heard: dict[str, Heard | None]
    train_loss: float
    best_epoch: int
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
) -> HeldOut:
    """Train a network on some recordings (row numbers) and hear others. started: all of it is a starter's.

    What is learnt from holds back its own recordings for early stopping, as `train` does: nothing is chosen on those
    that are heard.
    """
    begun = time.process_time()
    train, valid = held_back(recordings.subset(learn), seed)
    train_loss, best_epoch = math.nan, 0
    for report in fit(network, train, valid, settings, seed=seed, device=device, head=head, started=started):
        train_loss, best_epoch = report.train_loss, report.epoch if report.best else best_epoch
    heard = {recordings.names[i]: listen(network, recordings, i, device) for i in held.tolist()}
    return HeldOut(heard, train_loss, best_epoch, time.process_time() - begun)


def listen(network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Heard | None:
    """What a trained network says of a recording; None where it gives no numbers."""
    windows = recordings.windows(i)
    outputs_SO, _ = hear(network, recordings.waveform(i), float(recordings.gain_R[i]), windows, device)
    return Heard(outputs_SO.numpy(), windows.activity_S) if torch.isfinite(outputs_SO).all() else None
