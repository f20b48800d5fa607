"""Render performances in MIDI as recordings, with a labels.csv; files that are there and intact are kept.

examples:
  python scripts/render_midi.py --midi percepiano/takes --table percepiano/takes.csv --recordings takes \\
      --labels takes.csv
  python scripts/render_midi.py --midi percepiano/excerpts --table percepiano/excerpts.csv --recordings excerpts \\
      --labels excerpts.csv --pianos all --rooms none,living,hall,phone --levels 0,12 --formats flac,m4a

FluidSynth and the pianos are Debian packages: apt-get install -y fluidsynth fluid-soundfont-gm timgm6mb-soundfont
musescore-general-soundfont-lossless.
About 100 times as fast as real time on each core. What the columns mean: docs/rated-playing.md.
"""

from samplecnn.flags import Flags, run
from samplecnn.performances.midi import RenderSettings, plan_renderings, render_recordings, rendered_labels_csv
from samplecnn.store import read_file, store_of_file
from samplecnn.tables import read_csv


def main() -> int:
    args = (
        Flags(__doc__)
        .places("midi", "table", "recordings", "labels")
        .settings(RenderSettings)
        .common("workers")
        .parse()
    )
    rows = read_csv(read_file(args.table, "--table"), args.table)
    plan = plan_renderings(args.midi, rows, args.table, args.build(RenderSettings))
    written = render_recordings(args.recordings, plan, args.workers)
    store, name = store_of_file(args.labels)
    store.put(name, rendered_labels_csv(plan))
    print(f"{len(plan)} recordings in {args.recordings}: {written} rendered now, {len(plan) - written} already there")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
