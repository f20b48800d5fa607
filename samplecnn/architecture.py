"""Which network: what a user decides about it, and the plan that follows from that and from a segment's length.

Apart from network/, which builds it, because that costs two seconds of torch before --help can print.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from samplecnn.errors import UserError
from samplecnn.flags import flag

FIRST_WIDTH, INNER_WIDTH, LAST_WIDTH = 128, 256, 512  # channels: the first two blocks, those between, the last
FILTER_LENGTHS = (2, 3, 4, 5)  # the m of the papers' m^n
BLOCK_NAMES = ("plain", "se", "res", "rese")  # those of network/blocks.py
DEFAULT_NETWORK = "joined"
NETWORK_NAMES = (DEFAULT_NETWORK, "samplecnn", "rhythm", "rhythms")  # those of network/joined.py
HEAD_NAMES = ("cross-entropy", "coral", "corn")  # those of ordinal.py
LEVELS = 3  # blocks whose maxima a multi-level network concatenates, as published
LARGEST = 1 << 16  # of a width, pool or filter
MOST_SE_ALPHA = 16.0  # the ICASSP 2018 paper's


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which member of the family is trained. All of it is part of the model."""

    network: str = flag(
        None,
        "what hears: SampleCNN as published (samplecnn), the rhythm branch (rhythm), both on the same segments "
        "(joined), or several rhythm branches that each learn alone (rhythms) (default: joined; where the labels ask "
        "for --recipe from-nothing, rhythms)",
        choices=NETWORK_NAMES,
    )
    block: str = flag(
        "plain",
        "what a block is: plain, with squeeze and excitation (se), residual (res), or both (rese)",
        choices=BLOCK_NAMES,
    )
    se_alpha: float = flag(
        1 / 16,
        "inner width of squeeze and excitation over the channels; the paper's 16 makes 17 to 19 million parameters",
    )
    multi_level: bool = flag(False, "give the head the maxima of the last three blocks, not of the last one alone")
    filter_length: int = flag(
        0, "the papers' m, 2 to 5: length of filters and pools (0: chosen by the segment's length)"
    )
    depth: int = flag(0, "the papers' n, the number of blocks (0: as many as the segment allows)")
    head: str = flag(
        "cross-entropy",
        "what the network learns: grades without order (cross-entropy), or in order (coral, corn)",
        choices=HEAD_NAMES,
    )

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", DEFAULT_NETWORK)
        for name, value, known in (
            ("network", self.network, NETWORK_NAMES),
            ("block", self.block, BLOCK_NAMES),
            ("head", self.head, HEAD_NAMES),
        ):
            if value not in known:
                raise UserError(f"--{name} {value}: choose one of {', '.join(known)}")
        if self.filter_length and self.filter_length not in FILTER_LENGTHS:
            raise UserError(
                f"--filter-length {self.filter_length}: choose one of {', '.join(map(str, FILTER_LENGTHS))}"
            )
        if not 0 < self.se_alpha <= MOST_SE_ALPHA:
            raise UserError(f"--se-alpha {self.se_alpha}: choose a number above 0, at most {MOST_SE_ALPHA:g}")
        if self.depth < 0:
            raise UserError(f"--depth {self.depth}: choose 1 or more")


@dataclass(frozen=True)
class Plan:
    """The shape of a network for segments of one length, up to its head.

    stride: length and step of the first filter; pools: one a block; widths: channels after the first layer and after
    each block; filter_length: of the blocks' filters; last_kernel: of the layer after the blocks, 1 as published.
    exact: stride times pools is the segment's length, so that one frame is left. Otherwise the largest of the frames
    that are left is taken (global pooling). Raises ValueError where it contradicts itself.
    """

    segment_samples: int
    stride: int
    pools: tuple[int, ...]
    widths: tuple[int, ...]
    filter_length: int = 3
    last_kernel: int = 1
    block: str = "plain"
    se_alpha: float = NetworkSettings.se_alpha
    multi_level: bool = False

    def __post_init__(self) -> None:
        numbers = (self.segment_samples, self.stride, *self.pools, *self.widths, self.filter_length, self.last_kernel)
        if not all(type(n) is int and n > 0 for n in numbers) or max(numbers[1:]) > LARGEST:
            raise ValueError(f"plan {numbers}: positive integers are needed, at most {LARGEST}")
        if min(self.pools, default=0) < 2 or self.stride * math.prod(self.pools) > self.segment_samples:
            raise ValueError(f"stride {self.stride} and pools {self.pools} do not fit {self.segment_samples} samples")
        if len(self.widths) != len(self.pools) + 1:
            raise ValueError(f"{len(self.pools)} pools need {len(self.pools) + 1} widths, not {len(self.widths)}")
        if self.block not in BLOCK_NAMES:
            raise ValueError(f"{self.block!r} is none of {', '.join(BLOCK_NAMES)}")
        if type(self.se_alpha) is not float or not 0 < self.se_alpha <= MOST_SE_ALPHA:
            raise ValueError(f"se_alpha {self.se_alpha!r}: a number above 0 is needed, at most {MOST_SE_ALPHA:g}")
        if type(self.multi_level) is not bool or (self.multi_level and self.last_kernel != 1):
            raise ValueError(f"multi_level {self.multi_level!r} with last_kernel {self.last_kernel}: true needs 1")

    @property
    def exact(self) -> bool:
        """Is exactly one frame left after the last block?"""
        return self.stride * math.prod(self.pools) == self.segment_samples

    @property
    def embedding(self) -> int:
        """Width of what the head sees."""
        return sum(self.widths[1:][-LEVELS:]) if self.multi_level else self.widths[-1]

    def __str__(self) -> str:
        parts = [f"stride {self.stride}", f"pools {','.join(map(str, self.pools))}", f"filters of {self.filter_length}"]
        if self.block != "plain":
            parts.append(f"{self.block} blocks")
        if self.multi_level:
            parts.append("multi-level")
        return ", ".join([*parts, "one frame left" if self.exact else "global pooling"])


def plan_from_json(told: Mapping[str, Any]) -> Plan:
    """What JSON holds of asdict(plan). Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    if missing := {field.name for field in fields(Plan)} - told.keys():
        raise ValueError(f"the plan lacks {min(missing)}")  # a default would be another network
    return Plan(**{**told, "pools": tuple(told["pools"]), "widths": tuple(told["widths"])})


def plan_for(segment_samples: int, network: NetworkSettings | None = None) -> Plan:
    """The plan for segments of this many samples.

    With the papers' m (filter_length) filters and pools are m, and so is the first stride unless the papers' n (depth)
    says how many blocks follow it: then the stride is what is left, as in the paper's comparison of depths. Without
    either: m = 3 where the length is a power of 3 (59049: the paper's 3^9), else an exact split into 5, 3 and 2 with
    the large factors first (5000: 5 x 5,5,5,2,2,2; 2.2 times as fast as pools of 3 with global pooling,
    docs/performance.md), else m = 3 with global pooling. Raises UserError for a length that leaves no block, and for a
    depth that does not fit it.
    """
    network = network or NetworkSettings()
    m = network.filter_length or 3
    if network.depth:
        most = len(_powers(segment_samples, m))
        if network.depth > most:
            raise UserError(
                f"--depth {network.depth}: a segment of {segment_samples} samples has room for {most} pools"
            )
        if segment_samples // m**network.depth > LARGEST:
            least = next(depth for depth in range(1, most + 1) if segment_samples // m**depth <= LARGEST)
            raise UserError(
                f"--depth {network.depth}: leaves {segment_samples // m**network.depth} samples of a segment of "
                f"{segment_samples} to the first filter, which takes at most {LARGEST}: choose {least} or more"
            )
        stride, pools = segment_samples // m**network.depth, [m] * network.depth
    else:
        factors = _powers(segment_samples, m)
        if m ** len(factors) != segment_samples and not network.filter_length:
            factors = _split(segment_samples) or factors
        if len(factors) < 2:
            raise UserError(
                f"a segment of {segment_samples} samples is too short: "
                f"choose at least {m * m} (--segment-s, --sample-rate)"
            )
        stride, *pools = factors
    # Table 1 of the paper: 128, then blocks of 128, 128, 256 ... 256, 512.
    widths = (FIRST_WIDTH, *[FIRST_WIDTH if n < 2 else INNER_WIDTH for n in range(len(pools) - 1)], LAST_WIDTH)
    return Plan(
        segment_samples,
        stride,
        tuple(pools),
        widths,
        filter_length=m,
        block=network.block,
        se_alpha=network.se_alpha,
        multi_level=network.multi_level,
    )


def _powers(samples: int, m: int) -> list[int]:
    """As many m as go into this length."""
    factors = []
    while samples >= m:
        samples //= m
        factors.append(m)
    return factors


def _split(samples: int) -> list[int]:
    """The length as a product of 5, 3 and 2, large factors first; empty where it has another prime factor."""
    factors = []
    for prime in (5, 3, 2):
        while samples % prime == 0 and samples > 1:
            samples //= prime
            factors.append(prime)
    return factors if samples == 1 else []
