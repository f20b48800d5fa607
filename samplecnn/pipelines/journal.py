"""Lines from workers on the driver's terminal: what a long training says while it runs."""

import logging
import threading
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger(__name__)

POLL_S = 0.5


@ray.remote(num_cpus=0)
class Journal:
    """Carries the workers' lines to the driver's terminal."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._refusal = ""

    def add(self, line: str) -> None:
        self._lines.append(line)

    def refuse(self, why: str) -> None:
        self._refusal = why

    def refusal(self) -> str:
        return self._refusal

    def since(self, count: int) -> list[str]:
        return self._lines[count:]


def new_journal() -> Any:
    """A journal on the driver's own machine: workers' machines go, and a training would end with the journal on one."""
    here = ray.get_runtime_context().get_node_id()
    return Journal.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()  # type: ignore[attr-defined]


class Followed:
    """Logs a journal's lines for as long as the block lasts."""

    def __init__(self, journal: Any) -> None:
        self._journal, self._seen = journal, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._done.wait(POLL_S)  # once more after the end, for the last lines
            lines = ray.get(self._journal.since.remote(self._seen))
            self._seen += len(lines)
            for line in lines:
                log.info("%s", line)
