"""How far a job is, as a person can follow it. Apart from runtime.py, which loads Ray."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

T = TypeVar("T")
REPORT_EVERY_S = 30.0


class Progress:
    """A bar on a terminal, a log line now and then elsewhere."""

    def __init__(self, total: int, unit: str) -> None:
        self._bar = tqdm(total=total, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self._total, self._unit, self._done = total, unit, 0
        self._reported = time.monotonic()

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        self._bar.update(count)
        if self._bar.disable and time.monotonic() - self._reported > REPORT_EVERY_S:
            self._reported = time.monotonic()
            log.info("%d of %d %ss", self._done, self._total, self._unit.strip())

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def counted(found: Sequence[T], unit: str) -> Iterator[T]:
    """The same, each counted once it is dealt with."""
    progress = Progress(len(found), unit)
    for one in found:
        yield one
        progress.add()
    progress.close()
