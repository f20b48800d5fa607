"""Print the network for segments of one length, layer by layer, as the papers do.

examples:
  python scripts/layer_table.py
  python scripts/layer_table.py --sample-rate 2000 --segment-s 5
  python scripts/layer_table.py --samples 59049 --sample-rate 22050 --classes 50
  python scripts/layer_table.py --samples 16384 --filter-length 2
  python scripts/layer_table.py --block rese --multi-level --head coral

The table is SampleCNN's; a last line counts what the rhythm branch adds, or has alone (--network rhythm).
"""

from dataclasses import dataclass

from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.errors import UserError
from samplecnn.flags import Flags, flag, run
from samplecnn.segments import SegmentSettings


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """What the network hears and how many grades it tells apart."""

    sample_rate: int = flag(500, "samples per second (Hz)")
    segment_s: float = flag(10.0, "length of a segment (seconds)")
    samples: int = flag(0, "samples a segment (0: --segment-s at --sample-rate)")
    classes: int = flag(3, "number of grades")

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UserError(f"--classes {self.classes}: choose 2 or more")


BESIDE = {
    "joined": "joined with the rhythm branch",
    "rhythm": "the rhythm branch alone",
    "rhythms": "several rhythm branches",
}


def main() -> int:
    args = Flags(__doc__).settings(TableSettings, NetworkSettings).parse()
    asked = args.build(TableSettings)
    segments = SegmentSettings(sample_rate=asked.sample_rate, segment_s=asked.segment_s, hop_s=asked.segment_s)
    settings = args.build(NetworkSettings)
    plan = plan_for(asked.samples or segments.segment_samples, settings)
    import torch  # after parsing: torch takes 2 s

    from samplecnn.network import SampleCNN, parameter_count
    from samplecnn.network.joined import build
    from samplecnn.network.table import layer_table

    with torch.device("meta"):  # shapes alone: the paper's largest network is a table like any other
        network = SampleCNN(plan, asked.classes, settings.head)
        chosen = build(settings.network, plan, segments.sample_rate, asked.classes, settings.head)
    print(f"{plan.segment_samples} samples at {segments.sample_rate} Hz: {plan}\n")
    print("| layer | kernel | stride | frames x channels | parameters | hears |")
    print("|---|---|---|---|---|---|")
    for row in layer_table(network):
        heard = f"{row.receptive_samples} samples, {row.receptive_samples / segments.sample_rate:.3g} s"
        shape = f"{row.frames} x {row.channels}"
        print(f"| {row.layer} | {row.kernel} | {row.stride} | {shape} | {row.parameters:,} | {heard} |")
    print(f"\n{parameter_count(network):,} trainable parameters")
    if settings.network != "samplecnn":
        print(f"{BESIDE[settings.network]}: {parameter_count(chosen):,} trainable parameters")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
