"""Write docs/jobs.md from each job's own --help, so that the two never differ; with --check, only compare.

examples:
  python scripts/write_job_docs.py
  python scripts/write_job_docs.py --check
"""

import os
import subprocess
import sys
from pathlib import Path

from samplecnn.errors import JobError
from samplecnn.flags import Flags, run

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "jobs.md"
JOBS = (
    "prepare",
    "train",
    "evaluate",
    "grade",
    "correct",
    "erase",
    "promote",
    "report",
    "pretrain",
    "pretrain_unlabelled",
)  # in the order in which people need them


def page() -> str:
    """The whole of docs/jobs.md."""
    parts = ["# The jobs\n\nMade by `make docs` from each job's `--help`.\n"]
    for job in JOBS:
        helped = subprocess.run(
            [sys.executable, f"jobs/{job}.py", "--help"],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "110"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        parts.append(f"\n## {job}\n\n```text\n{helped.strip()}\n```\n")
    return "".join(parts)


def main() -> int:
    args = Flags(__doc__).switch("check", "compare with docs/jobs.md and write nothing").parse()
    if args.check:
        if PAGE.read_text(encoding="utf-8") != page():
            raise JobError("docs/jobs.md is older than the jobs' flags: run make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
