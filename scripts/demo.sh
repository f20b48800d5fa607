#!/usr/bin/env bash
# The whole job on an embedded Ray: perform, prepare, evaluate, train, grade, correct, report. Run by "make demo" in the
# folder demo/; "scripts/demo.sh gs://bucket/prefix" uploads the recordings there and keeps all results there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
place=${1:-demo}
mkdir -p demo

say() { printf '\n== %s\n' "$*"; }

say "15 labelled recordings, and 6 new ones by other performers (generated; kept for the next time)"
$python scripts/make_recordings.py --recordings demo/recordings --labels demo/labels.csv --truth demo/truth.csv
$python scripts/make_recordings.py --recordings demo/new --truth demo/new-truth.csv \
  --count 6 --performers 6 --first-performer 100 --prefix new

if [[ $place == gs://* ]]; then
  say "upload: recordings and labels into $place"
  $python scripts/upload_demo.py "$place"
fi

say "prepare: recordings into segments"
$python jobs/prepare.py --recordings "$place/recordings" --segments "$place/segments"

say "evaluate: cross-validation, grouped by performer, beside the baselines"
evaluation=$($python jobs/evaluate.py \
  --segments "$place/segments" --labels "$place/labels.csv" --evaluation "$place/evaluation")

say "train: the model for new recordings"
$python jobs/train.py --segments "$place/segments" --labels "$place/labels.csv" --model "$place/model" \
  --evaluation "$place/evaluation"

say "grade: recordings that the model has not seen"
$python jobs/grade.py --recordings "$place/new" --model "$place/model" --grades "$place/grades" --regrade

say "the grades ($place/grades/latest.csv)"
$python scripts/show_grades.py --grades "$place/grades"

say "a person overrules a grade; it stands before the model's from now on"
one=$(basename "$(printf '%s\n' demo/new/* | head -n 1)")
printf 'recording,grade,by,why\n%s,B,Ann,"heard it twice: uneven, but the phrasing is there"\n' "$one" > demo/corrections.csv
$python jobs/correct.py --grades "$place/grades" --corrections demo/corrections.csv
$python scripts/show_grades.py --grades "$place/grades" | grep -E '^grade|corrected by'

say "one file graded from the terminal; nothing is written"
$python jobs/grade.py --recordings "$place/new/$one" --model "$place/model"

say "the page that shows why"
$python jobs/report.py --grades "$place/grades" --evaluation "$place/evaluation" --segments "$place/segments" \
  --model "$place/model"

say "how far to trust them: cross-validation on the 15 labelled recordings"
printf '%s\n' "$evaluation"

[[ -z ${STORAGE_EMULATOR_HOST:-} ]] || exit 0 # a test server: nobody can look at it later
printf '\nWhere to look next\n'
while IFS='|' read -r file what; do printf '  %-31s %s\n' "$file" "$what"; done <<END
$place/grades/report.html|the grades with what is behind each: open it in a browser
$place/grades/label_next.csv|the recordings most worth a person's grade
$place/grades/latest.csv|the grades, for a spreadsheet; latest.parquet for pandas and DuckDB
demo/corrections.csv|how a person overrules one
$place/evaluation/metrics.csv|how good the model is on recordings it has not heard, with intervals
$place/evaluation/predictions.csv|what it said of each labelled recording when it was held out
demo/truth.csv, new-truth.csv|how well each one was really performed (no job ever sees these)
README.md|your own recordings, and the cluster
END
