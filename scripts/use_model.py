"""Make the grades of an earlier model the current ones, in one commit; without --model-id, list the models.

examples:
  python scripts/use_model.py --grades grades
  python scripts/use_model.py --grades grades --model-id 4be1d0a3c5f29e07
  python scripts/use_model.py --grades gs://school/grades --model gs://school/model --model-id 4be1d0a3c5f29e07

Nothing is graded again and nothing leaves the log: the same command with the other id goes back. With --model, later
runs of jobs/grade.py use that model too.
"""

from samplecnn.commits import CommitLog, new_run
from samplecnn.contract import LATEST_CSV
from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.grades_folder import graded_by, grades_of, use_model, write_views
from samplecnn.store import Store, open_store


def main() -> int:
    flags = Flags(__doc__).places("grades", optional=("model",))
    args = flags.option("model_id", "", "the model whose grades are to be the current ones").parse()
    store = open_store(args.grades)
    commits = CommitLog(store, "grades")
    if commits.state().settings is None:
        raise UserError(f"--grades {args.grades}: no grades there: run jobs/grade.py first")
    if not args.model_id:
        if args.model:
            raise UserError("--model: wants --model-id with it")
        show(store, commits)
        return 0
    if args.model:
        from samplecnn import model_folder  # here, since it waits for torch

        model_folder.load(open_store(args.model).url(args.model_id))  # refused before anything is changed
    state, changed, without = use_model(commits, new_run(), args.model_id)
    write_views(store, state, grades_of(state))
    if args.model:
        model_folder.use(args.model, args.model_id)
    kept = f"; {without} recordings have none of this model and keep theirs" if without else ""
    print(f"{changed} grades changed to those of model {args.model_id}{kept}; see {store.url(LATEST_CSV)}")
    return 0


def show(store: Store, commits: CommitLog) -> None:
    print(f"{'model':18}{'graded':>9}{'current':>9}  {'first':17}last (UTC)")
    for model in graded_by(store, commits.state()):
        times = f"{model.first:%Y-%m-%d %H:%M} {model.last:%Y-%m-%d %H:%M}"
        print(f"{model.model_id:18}{model.graded:>9}{model.current:>9}  {times}")


if __name__ == "__main__":
    raise SystemExit(run(main))
