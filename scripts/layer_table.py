"""Print the network for segments of one length, layer by layer, as the papers do.

examples:
  python scripts/layer_table.py
  python scripts/layer_table.py --sample-rate 2000 --segment-s 5
  python scripts/layer_table.py --samples 59049 --sample-rate 22050 --outputs 50
  python scripts/layer_table.py --samples 16384 --filter-length 2
"""

from dataclasses import dataclass

from samplecnn.errors import UserError
from samplecnn.flags import Flags, flag, run
from samplecnn.segments import SegmentSettings


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Which network."""

    sample_rate: int = flag(500, "samples per second (Hz)")
    segment_s: float = flag(10.0, "length of a segment (seconds)")
    samples: int = flag(0, "samples a segment (0: --segment-s at --sample-rate)")
    filter_length: int = flag(0, "the papers' m, 2 to 5 (0: chosen by the length)")
    outputs: int = flag(3, "outputs of the network: with cross-entropy the number of grades")

    def __post_init__(self) -> None:
        if self.outputs < 1:
            raise UserError(f"--outputs {self.outputs}: choose 1 or more")


def main() -> int:
    args = Flags(__doc__).settings(TableSettings).parse()
    asked = args.build(TableSettings)
    segments = SegmentSettings(sample_rate=asked.sample_rate, segment_s=asked.segment_s, hop_s=asked.segment_s)
    from samplecnn.network import SampleCNN, layer_table, parameter_count, plan_for  # after parsing: torch takes 2 s

    plan = plan_for(asked.samples or segments.segment_samples, asked.filter_length or None)
    network = SampleCNN(plan, asked.outputs)
    print(f"{plan.segment_samples} samples at {segments.sample_rate} Hz: {plan}\n")
    print("| layer | kernel | stride | frames x channels | parameters | hears |")
    print("|---|---|---|---|---|---|")
    for row in layer_table(network):
        heard = f"{row.receptive_samples} samples, {row.receptive_samples / segments.sample_rate:.3g} s"
        shape = f"{row.frames} x {row.channels}"
        print(f"| {row.layer} | {row.kernel} | {row.stride} | {shape} | {row.parameters:,} | {heard} |")
    print(f"\n{parameter_count(network):,} trainable parameters")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
