#!/usr/bin/env bash
# The whole job on an embedded Ray, under demo/: perform, prepare, evaluate, train, grade, print. Run by "make demo".
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
mkdir -p demo

say() { printf '\n== %s\n' "$*"; }

say "15 labelled recordings, and 6 new ones by other performers (generated; kept for the next time)"
$python scripts/make_recordings.py --recordings demo/recordings --labels demo/labels.csv --truth demo/truth.csv
$python scripts/make_recordings.py --recordings demo/new --truth demo/new-truth.csv \
  --count 6 --performers 6 --first-performer 100 --prefix new

say "prepare: recordings into segments"
$python jobs/prepare.py --recordings demo/recordings --segments demo/segments

say "evaluate: cross-validation, grouped by performer, beside the baselines"
$python jobs/evaluate.py --segments demo/segments --labels demo/labels.csv --evaluation demo/evaluation > demo/evaluation.txt

say "train: the model for new recordings"
$python jobs/train.py --segments demo/segments --labels demo/labels.csv --model demo/model

say "grade: recordings that the model has not seen"
$python jobs/grade.py --recordings demo/new --model demo/model --grades demo/grades --regrade

say "the grades (demo/grades/latest.csv)"
$python scripts/show_grades.py --grades demo/grades

say "how far to trust them: cross-validation on the 15 labelled recordings"
cat demo/evaluation.txt

cat <<'END'

Where to look next
  demo/grades/latest.csv          the grades, for a spreadsheet; latest.parquet for pandas and DuckDB
  demo/evaluation/metrics.csv     how good the model is on recordings it has not heard, with intervals
  demo/evaluation/predictions.csv what it said of each labelled recording when it was held out
  demo/truth.csv, new-truth.csv   how well each one was really performed (no job ever sees these)
  README.md                       your own recordings, and the cluster
END
