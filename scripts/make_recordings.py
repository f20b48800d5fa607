"""Perform and record music of graded quality: recordings, their labels, and the truth behind them.

examples:
  python scripts/make_recordings.py --recordings demo/recordings --labels demo/labels.csv --count 15 --seed 0
  python scripts/make_recordings.py --recordings demo/new --count 6 --performers 6 --first-performer 100 --prefix new
  python scripts/make_recordings.py --recordings big --labels big.csv --count 150 --performers 45 --gap 0
  python scripts/make_recordings.py --recordings slow --labels slow.csv --count 60 --performers 30 \\
      --faults tempo_slide,dynamics_fade
"""

from samplecnn.flags import Flags, run
from samplecnn.performances.corpus import CorpusSettings, labels_csv, plan_corpus, truth_csv, write_corpus
from samplecnn.store import store_of_file


def main() -> int:
    args = (
        Flags(__doc__)
        .places("recordings", optional=("labels",))
        .option("truth", "", "CSV file for the latent skill, faults and nuisances of each recording")
        .settings(CorpusSettings)
        .common("workers")
        .parse()
    )
    plan = plan_corpus(args.build(CorpusSettings))
    written = write_corpus(args.recordings, plan, args.workers)
    for path, content in ((args.labels, labels_csv(plan)), (args.truth, truth_csv(plan))):
        if path:
            store, name = store_of_file(path)
            store.put(name, content)
    print(f"{len(plan)} recordings in {args.recordings}: {written} performed now, {len(plan) - written} already there")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
