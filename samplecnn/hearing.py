"""What training and grading ask of a network, so that SampleCNN is one of several that they serve."""

from torch import Tensor, nn

# B segments, T samples, O outputs of the head, E embedding.


class Hearing(nn.Module):
    """A network on raw waveforms of one length.

    segment_samples: T. Its state dict is all that it learns, and in training it draws from the segments' keys alone.
    """

    segment_samples: int

    def hear(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """outputs_BO and embedding_BE, what the head sees. waveform_BT: float32, mono, level normalised once per
        recording; key_B: int64 on the CPU, one random number a segment, needed in training only."""
        raise NotImplementedError

    def forward(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        """outputs_BO."""
        return self.hear(waveform_BT, key_B)[0]
