"""Show what a model's filters listen for: a waveform and a spectrum of each, as a table and as a figure.

examples:
  python scripts/show_filters.py --model model --out filters
  python scripts/show_filters.py --model gs://school/model --out gs://school/filters --layers 3

filters.parquet has one row a filter: layer, filter, peak_hz, activation, sample_rate, waveform, spectrum. filters.png
shows the layers from the waveform on; of a joined model those of its SampleCNN. About two CPU minutes for a model of
10 s at 500 Hz.
"""

from dataclasses import dataclass

from samplecnn.contract import FILTERS_PARQUET, FILTERS_PNG
from samplecnn.errors import UserError
from samplecnn.flags import Flags, flag, run
from samplecnn.store import open_store
from samplecnn.tables import parquet_bytes


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Which filters are looked at."""

    layers: int = flag(6, "layers from the waveform on, the strided one included")
    samples: int = flag(0, "length of the waveforms (0: what the deepest of these layers hears, at most a segment)")

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise UserError(f"--layers {self.layers}: choose 1 or more")
        if self.samples < 0:
            raise UserError(f"--samples {self.samples}: choose 1 or more")


def main() -> int:
    args = Flags(__doc__).places("model", "out").settings(FilterSettings).common("seed").parse()
    settings = args.build(FilterSettings)
    from samplecnn.filters import (
        filters_figure,
        filters_table,
        find_filters,
        samplecnn_of,
    )  # after parsing: torch takes 2 s
    from samplecnn.model_folder import load

    store = open_store(args.out)  # a wrong place is refused now, not after a minute
    card, network = load(args.model)
    layers = find_filters(
        samplecnn_of(network, args.model),
        card.settings.sample_rate,
        seed=args.seed,
        layers=settings.layers,
        samples=settings.samples,
    )
    table = filters_table(layers)
    store.put(FILTERS_PARQUET, parquet_bytes(table))
    store.put(FILTERS_PNG, filters_figure(layers))
    print(f"{table.num_rows} filters of {len(layers)} layers: {store.url(FILTERS_PARQUET)}, {store.url(FILTERS_PNG)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
