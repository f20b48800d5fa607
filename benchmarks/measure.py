"""What every benchmark needs: CPU seconds of processes, repeated rounds, and a table that a person and a program read.

CPU seconds rather than wall: the machines are shared. Rounds go over all contestants in turn, so that a busy minute
hits every one of them; medians over rounds, with the smallest and largest beside them.
"""

import os
import platform
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self, TypeVar

R = TypeVar("R")  # what a contestant returns
SAMPLE_EVERY_S = 0.1

# What the figures depend on.
PACKAGES = ("torch", "numpy", "av", "soxr", "ray", "pyarrow")


@dataclass(frozen=True)
class Table:
    """One table of results; units stand in the columns' names."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float, ...]]

    def markdown(self) -> str:
        """For a terminal and for docs/."""
        lines = [f"**{self.title}**", "", *(_line(cells) for cells in (self.columns, ["---"] * len(self.columns)))]
        return "\n".join([*lines, *(_line([_figure(cell) for cell in row]) for row in self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def machine() -> dict[str, str | int]:
    """The machine, without its name."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "system": f"{platform.system()} {platform.machine()}".lower(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 1,
    }


def versions() -> dict[str, str]:
    """Python and the packages that the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def inputs_folder(name: str) -> str:
    """A folder for inputs that are worth keeping between runs."""
    path = Path(tempfile.gettempdir()) / "samplecnn-benchmarks" / name
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def rounds(contestants: dict[str, Callable[[], R]], count: int) -> dict[str, list[R]]:
    """What each contestant returns, `count` times, taking turns; the first turn warms up and does not count."""
    results: dict[str, list[R]] = {name: [] for name in contestants}
    for turn in range(count + 1):
        for name, contestant in contestants.items():
            result = contestant()
            if turn:
                results[name].append(result)
    return results


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Smallest and largest."""
    return f"{_figure(min(values))} to {_figure(max(values))}"


def cpu_s(pid: int) -> float:
    """CPU seconds of one running process so far, all its threads (Linux: the process's own clock, in nanoseconds)."""
    return time.clock_gettime(~pid << 3 | 2)


def peak_mb(pid: int) -> float:
    """The most memory a process has held, MB. (ru_maxrss would count what its parent held before it was started.)"""
    kilobytes = next(line.split()[1] for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM"))
    return int(kilobytes) / 1000


def resident_mb(pid: int) -> float:
    """Memory that a process holds and shares with no other, MB (Ray's object store is shared); 0 where it has ended."""
    found = _lines(f"/proc/{pid}/statm")
    if not found:
        return 0.0
    _, resident, shared, *_ = map(int, found[0].split())
    return (resident - shared) * resource.getpagesize() / 1e6


def descendants() -> list[int]:
    """Processes that this one started, and those that they did."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := _lines(f"/proc/{entry}/stat")):
            parent = int(found[0].rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    waiting, below = [os.getpid()], []
    while waiting:
        found_now = children.get(waiting.pop(), [])
        below += found_now
        waiting += found_now
    return below


class AllProcesses:
    """CPU seconds of this process and all below it, while the block lasts or until stop()."""

    def __enter__(self) -> Self:
        self._before = dict(_clocks())
        self._after = dict(self._before)
        self.own_s = 0.0  # what the sampling itself takes, of this process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._done.is_set():
            self.stop()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        self._after |= dict(_clocks())
        self.cpu_s = sum(clock - self._before.get(pid, 0.0) for pid, clock in self._after.items()) - self.own_s

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self._after |= dict(_clocks())
        self.own_s = time.thread_time()


def _clocks() -> Iterator[tuple[int, float]]:
    for pid in (os.getpid(), *descendants()):
        try:
            yield pid, cpu_s(pid)
        except OSError:  # it has just ended; its last sample stands
            continue


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):  # no such file here, or the process has just ended
        return []
