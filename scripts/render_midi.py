"""Render performances in MIDI as recordings, with a labels.csv; files that are there and intact are kept.

examples:
  python scripts/render_midi.py --midi percepiano/takes --table percepiano/takes.csv --recordings takes \\
      --labels takes.csv
  python scripts/render_midi.py --midi percepiano/excerpts --table percepiano/excerpts.csv --recordings excerpts \\
      --labels excerpts.csv --pianos all --rooms none,living,hall,phone --levels 0,12 --formats flac,m4a

FluidSynth and the pianos are Debian packages: apt-get install -y fluidsynth fluid-soundfont-gm timgm6mb-soundfont.
About 100 times as fast as real time on each core. What the columns mean: docs/rated-playing.md.
"""

import os

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.performances.midi import RenderSettings, plan_renderings, render_recordings, rendered_labels_csv
from samplecnn.tables import read_csv


def main() -> int:
    args = (
        Flags(__doc__)
        .places("midi", "table", "recordings", "labels")
        .settings(RenderSettings)
        .common("workers")
        .parse()
    )
    try:
        with open(args.table, "rb") as file:
            rows = read_csv(file.read(), args.table)
    except OSError as error:
        raise UserError(f"--table {args.table}: {error.strerror}: name a CSV file") from None
    plan = plan_renderings(args.midi, rows, args.table, args.build(RenderSettings))
    written = render_recordings(args.recordings, plan, args.workers)
    os.makedirs(os.path.dirname(args.labels) or ".", exist_ok=True)
    with open(args.labels, "wb") as file:
        file.write(rendered_labels_csv(plan))
    print(f"{len(plan)} recordings in {args.recordings}: {written} rendered now, {len(plan) - written} already there")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
