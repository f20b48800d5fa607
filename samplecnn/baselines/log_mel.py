"""Graders that hear a log-mel spectrogram: what is usually tried before a network on the raw waveform.

The same recordings at the same rate, level normalised in the same way, so that what differs is what is made of them.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from samplecnn.batches import RecordingSet, active_stretch
from samplecnn.batchnorm import BatchNorm
from samplecnn.hearing import Hearing
from samplecnn.layers import Pool, SameConv
from samplecnn.network import DROPOUT, he_uniform
from samplecnn.network.blocks import KeyedDropout
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.torch_audio import transforms

# B segments, T samples, M mel bands, F frames, C channels, R recordings, O outputs.

WINDOW_S = 0.128  # 33 frequencies at 500 Hz; a hop is a quarter of it
MOST_BANDS = 24
FLOOR = 1e-6  # of power, 60 dB below the playing; digital silence has a logarithm too
WIDTHS = (32, 64, 64)
POOL = 4


class LogMel(nn.Module):
    """log_mel_BMF of waveform_BT: natural logarithm of the power in mel bands, 31 frames a second."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        window = max(16, 2 * round(WINDOW_S * sample_rate / 2))
        self.bands = min(MOST_BANDS, 3 * window // 4)  # at 100 Hz 12: of more some would hold no frequency at all
        self.spectrogram = transforms.MelSpectrogram(
            sample_rate, n_fft=window, hop_length=window // 4, n_mels=self.bands, normalized="window"
        )

    def forward(self, waveform_BT: Tensor) -> Tensor:
        short = self.spectrogram.n_fft // 2 + 1 - waveform_BT.shape[-1]  # its ends are mirrored, half a window wide
        return torch.log(self.spectrogram(functional.pad(waveform_BT, (0, max(0, short)))) + FLOOR)


class LogMelCNN(Hearing):
    """Mel bands as channels, three convolutions over time that each pool by 4, mean and maximum over time, a head.

    Trained and merged like SampleCNN. seed: of the initial weights (He-uniform).
    """

    def __init__(
        self, segment_samples: int, sample_rate: int, grades: int, head: str = DEFAULT_HEAD, seed: int = 0
    ) -> None:
        super().__init__()
        self.segment_samples, self.embedding = segment_samples, 2 * WIDTHS[-1]
        self.log_mel = LogMel(sample_rate)
        self.norm = BatchNorm(self.log_mel.bands)
        widths = (self.log_mel.bands, *WIDTHS)
        self.convs = nn.ModuleList(SameConv(into, out, 3) for into, out in zip(widths, WIDTHS, strict=False))
        self.norms = nn.ModuleList(BatchNorm(width) for width in WIDTHS)
        self.pool = Pool(POOL)
        self.dropout = KeyedDropout(DROPOUT, stream=0)
        self.head = HEADS[head].layer(self.embedding, grades)
        he_uniform(self, seed)

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        x_BCF = self.norm(self.log_mel(waveform_BT))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BCF = self.pool(functional.relu(norm(conv(x_BCF))))
        return torch.cat([x_BCF.mean(dim=2), x_BCF.amax(dim=2)], dim=1)


def log_mel_features(recordings: RecordingSet) -> npt.NDArray[np.float64]:
    """Statistics of each recording's spectrogram from its first active frame to its last, [R, 4 M]: of each band mean
    and spread, and mean and spread of its steps from frame to frame."""
    log_mel = LogMel(recordings.settings.sample_rate)
    rows = []
    for i in range(len(recordings)):
        first, end = active_stretch(recordings, i)
        wave_T = recordings.waveform(i)[first:end] * recordings.gain_R[i]
        with torch.inference_mode():
            bands_MF = log_mel(torch.from_numpy(wave_T)[None])[0].double().numpy()
        steps_MF = np.abs(np.diff(bands_MF, axis=1)) if bands_MF.shape[1] > 1 else np.zeros_like(bands_MF)
        rows.append(np.concatenate([s for x_MF in (bands_MF, steps_MF) for s in (x_MF.mean(1), x_MF.std(1))]))
    return np.stack(rows)
