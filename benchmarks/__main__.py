"""Measure, print Markdown tables, and write them down with machine and versions.

examples:
  python -m benchmarks                      all but the slow ones, into benchmarks/results/
  python -m benchmarks --quick              do they run? (their figures mean nothing)
  python -m benchmarks choose_model         one of them; some take minutes and run only when named
"""

import argparse
import importlib
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Table, machine, versions

MODULES = (
    *("decode", "peers", "memory", "plans", "network", "network_profile", "planning", "prepare_job", "grade_job"),
    "report",
)
SLOW = (
    *("chance", "choose_model", "context", "ear", "growth", "half_precision", "held_out_faults", "honesty", "margin"),
    *("messages", "risk", "sample_rates", "starting", "train_job", "unlabelled"),
)
BY_HAND = (
    "gpu",
    "not_playing",
    "people",
    "rated",
    "scale",
    "short_playing",
)  # python -m benchmarks.gpu: what they need is not everywhere, or nothing to run
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join((*MODULES, *SLOW))} (default: all fast)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, nothing is written")
    args = parser.parse_args()
    for name in args.names:
        if name not in (*MODULES, *SLOW):
            parser.error(f"{name}: choose among {', '.join((*MODULES, *SLOW))}")
    tables: dict[str, list[Table]] = {}
    for name in args.names or MODULES:
        tables[name] = []
        for table in importlib.import_module(f"benchmarks.{name}").run(
            args.quick
        ):  # one after another, as they are done
            print(f"{table.markdown()}\n", flush=True)
            tables[name].append(table)
    if not args.quick:
        print(f"written to {write(tables)}")


def write(tables: dict[str, list[Table]]) -> str:
    """benchmarks/results/<date>-<machine>.json; a second run of the day replaces only what it measured again."""
    here = machine()
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{here['system'].replace(' ', '-')}-{here['cores']}-cores.json"
    path.parent.mkdir(exist_ok=True)
    earlier = json.loads(path.read_text())["tables"] if path.exists() else {}
    whole = {
        "machine": here,
        "versions": versions(),
        "tables": earlier | {name: [asdict(table) for table in found] for name, found in tables.items()},
    }
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return os.path.relpath(path)


if __name__ == "__main__":
    main()
