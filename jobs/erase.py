"""Erase a recording, or all of a performer, from everything that was made of it; without --delete only say what.

examples:
  python jobs/erase.py --recording "2026/take 1.wav" --segments segments --grades grades --evaluation evaluation
  python jobs/erase.py --performer p07 --labels labels.csv --segments gs://school/segments \\
      --grades gs://school/grades --nights gs://school/nights --recordings gs://school/uploads \\
      --model gs://school/model --recordings-too --labels-too --delete

The same command again is always safe, and goes on where a killed one stopped. What was erased does not come back: an
upload of that name is left alone from then on. The upload itself is deleted with --recordings-too only, and lines of
files that you wrote or had written, labels, corrections, exports, with --labels-too: give each as a --labels. --model
names the models that learnt from it. See docs/privacy.md.
"""

from samplecnn.flags import Flags, run


def main() -> int:
    flags = (
        Flags(__doc__)
        .option("recording", "", "the name of a recording, as latest.csv has it")
        .option("performer", "", "all recordings of this performer, by --labels")
        .places(
            optional=("labels", "segments", "grades", "evaluation", "nights", "recordings", "model"),
            repeated=("labels",),
        )
        .switch("recordings_too", "delete the uploads in --recordings too")
        .switch("labels_too", "remove their lines from the files of --labels too")
        .switch("delete", "erase, instead of only naming what would go")
    )
    args = flags.parse()
    from samplecnn.erasure import Places, erase, wanted  # after parsing: --help need not wait for Arrow

    places = Places(args.segments, args.grades, args.evaluation, args.nights, args.recordings, args.model)
    labels = args.labels or []
    what = wanted(args.recording, args.performer, labels)
    too = {"recordings_too": args.recordings_too, "labels_too": args.labels_too}
    for line in erase(what, places, delete=args.delete, labels=labels, **too):
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
