"""Let a new model take over from the current one, if it is not worse.

examples:
  python jobs/train.py --segments segments --labels new.csv --model candidate --evaluation evaluation
  python jobs/promote.py --candidate candidate --models model --recordings uploads --labels new.csv --grades grades
  python jobs/promote.py --candidate model/4be1d0a3c5f29e07 --models model --force --why "the new one is hard on jazz"

Both models are compared on the labelled recordings that neither was trained on; where those are too few, by the
cross-validation that each was trained with (--evaluation, --current-evaluation). With --grades the candidate also
grades what the last nights brought, and who would change grade is printed; no grade is written. Labels that give marks
and no grades want --cuts as in train; marks are compared where both models tell them. Exit code 0: the candidate is
the current model; 1: the current one stays. The decision is kept beside the candidate in --models.
"""

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.promotion import PromotionSettings

PLACES = ("recordings", "labels", "grades", "evaluation", "current_evaluation")


def main() -> int:
    flags = Flags(__doc__).places("candidate", "models", optional=PLACES).settings(PromotionSettings)
    args = flags.switch("force", "let the candidate take over whatever is found; wants --why").parse()
    settings = args.build(PromotionSettings)
    if args.force != bool(settings.why):
        raise UserError('--force and --why belong together: say why, as in --force --why "too strict with children"')
    from samplecnn.pipelines.promote import Evidence, promote  # after parsing: --help need not wait for torch

    evidence = Evidence(*(getattr(args, name) for name in PLACES))
    return 0 if promote(args.candidate, args.models, evidence, settings, print) else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
