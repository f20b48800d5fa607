"""What training and grading ask of a network, so that SampleCNN is one of several that they serve."""

import ctypes

import torch
from torch import Tensor, nn

from samplecnn.attention import Attention

# B segments, T samples, M members, O outputs of the head, E embedding.


# Of glibc's malloc.h: how much free memory at the end of the heap is kept, and from which size on a block is a mapping
# of its own; an older glibc takes 32 MB at most for that.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, KEPT_BLOCK_BYTES = 1 << 30, 32 << 20


def own_threads(threads: int) -> None:
    """Compute with so many threads in this process, and keep memory that is freed for the next batch.

    By default glibc gives the megabytes of a layer back to the system after a batch, and has them faulted in anew,
    zeroed, at the next: 10,000 pages a training step of 16 segments (tests/test_hearing.py).
    """
    torch.set_num_threads(threads)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other C libraries have none
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        if not libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES):
            libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)


def own_device() -> torch.device:
    """The GPU of this process where it has one, else the CPU.

    Convolutions keep float32: TF32, torch's default for them on newer cards, moves outputs by 2e-3
    (docs/performance.md), and with them a grade that lies near a cut.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Hearing(nn.Module):
    """A network on raw waveforms of one length: an embedding, dropout, and a head on it.

    segment_samples: T; embedding: E; dropout: keyed (network/blocks.py); head: ordinal.py's, from E to O (where members
    have their own there is none); attention: how much a segment counts, heard from all of the embedding, None where all
    count by their activity alone. The state dict is all that is learnt, and
    in training the network draws from the segments' keys alone.
    """

    segment_samples: int
    embedding: int
    dropout: nn.Module
    head: nn.Module
    attention: Attention | None

    def __init__(self) -> None:
        super().__init__()
        self.attention = None

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        """embedding_BE. waveform_BT: float32, mono, level normalised once per recording; key_B: int64 on the CPU, one
        random number a segment, needed in training only."""
        raise NotImplementedError

    def dropped(self, embedding_BE: Tensor, key_B: Tensor | None) -> Tensor:
        """The embedding as the head sees it in training."""
        dropped_BE: Tensor = self.dropout(embedding_BE, key_B)
        return dropped_BE

    def members(self, embedding_BE: Tensor, key_B: Tensor | None = None) -> Tensor:
        """outputs_MBO: what each of those that make up the network says by itself. In training each is charged for its
        own. Most networks are one."""
        outputs_BO: Tensor = self.head(self.dropped(embedding_BE, key_B))
        return outputs_BO.unsqueeze(0)

    def hear(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """outputs_BO, the mean over members, and embedding_BE before dropout."""
        embedding_BE = self.embed(waveform_BT, key_B)
        return self.members(embedding_BE, key_B).mean(dim=0), embedding_BE

    def forward(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        """outputs_BO."""
        return self.hear(waveform_BT, key_B)[0]
