"""Any audio file → mono float32 at one rate: the one loader of prepare and grade (loaders differ in level by up to 2x).

Decoding is done by a child process (audio/child.py): a crash inside FFmpeg's C code, a hang or a bomb
costs one recording and never its worker. One JSON line a request, one an answer; samples come back through a file that
the parent maps, so that a long recording costs no more memory than a short one. The file never has a name: whichever
process is killed, nothing is left on the disk. av and soxr are imported by the child
alone; this module is the parent's half and cheap to import.

Traded away: the child costs about 0.3 s to start, once a Decoder. Cutting into segments is left to segments.py: cut
before resampling, each piece carries the filter's edge error at both its ends.
"""

import contextlib
import json
import mmap
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import samplecnn
from samplecnn.errors import JobError, RecordingError

# Dimensions: T samples, F frames of FRAME_S, C channels.

MEMORY_EXIT = 3  # the child's exit code where it ran out of its memory
START_LIMIT_S = 120.0  # for a child to import av and soxr on a crowded machine (0.3 s on an idle one)
# glibc's: keep the memory of blocks instead of asking the system for it anew each time (a sixth of the CPU time).
FAST_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "67108864", "MALLOC_TRIM_THRESHOLD_": "134217728"}
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}  # the file's fault: would recur


@dataclass(frozen=True)
class Decoded:
    """One recording, decoded.

    samples_T: float32 mono at sample_rate, read-only, mapped from a file without a name. frame_power_F:
    float64 mean squares of the same mono at the file's own rate (source_rate), one a frame of FRAME_S from sample 0 on.
    warnings: what was wrong with the file though it could be used; short phrases for a person.
    """

    samples_T: npt.NDArray[np.float32]
    sample_rate: int
    frame_power_F: npt.NDArray[np.float64]
    duration_s: float
    source_rate: int
    channels: int
    codec: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What one recording may cost. Decoding runs at 400 to 1800 times real time: these leave a wide margin."""

    max_hours: float = 12.0  # of decoded sound: 10 h of silence are a 6 MB flac
    memory_mb: int = 1024  # address space of the child beyond what its imports take
    base_s: float = 60.0  # time limit: base + per MB of file, but never more than the ceiling
    per_mb_s: float = 5.0  # 1 MB of opus at 6 kbit/s is 22 min of sound: 3 s of work
    ceiling_s: float = 3600.0

    def seconds(self, size_bytes: int) -> float:
        """The time limit of a file of this size."""
        return min(self.base_s + self.per_mb_s * size_bytes / 1e6, self.ceiling_s)


@dataclass(frozen=True)
class Request:
    """One line to the child."""

    path: str
    sample_rate: int
    max_hours: float


class Decoder:
    """Decodes files one after another in one child process, which is started when first needed and after each death.

    Use as a context manager, or call close(). Not for several threads at once: PyAV does not scale over threads, have
    one Decoder a process.
    """

    def __init__(self, sample_rate: int, limits: DecodeLimits | None = None) -> None:
        self._sample_rate = sample_rate
        self._limits = limits or DecodeLimits()
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The Decoder can be used again."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def decode(self, path: str) -> Decoded:
        """Decode one local file.

        Raises RecordingError("read", not permanent) where the file cannot be read, RecordingError("decode") where it
        holds no sound that can be used or the child did not survive it, JobError where no child can be started.
        """
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:
            raise RecordingError("read", os_reason(error), False) from None
        if not stat.S_ISREG(found.st_mode):
            raise RecordingError("read", "not a regular file", False)
        if found.st_size == 0:
            raise RecordingError("decode", "the file is empty")
        if self._child is not None and not self._child.is_alive():
            self.close()  # it died between two recordings: no fault of this one
        if self._child is None:
            self._child = _Child(self._sample_rate, self._limits)
        try:
            return self._child.decode(path, self._limits.seconds(found.st_size))
        except BaseException as error:
            # Killed, late, or left in the middle of an answer (Ctrl-C): only a child that has answered is used again.
            if not (isinstance(error, RecordingError) and self._child.is_idle):
                self.close()
            raise


class _Child:
    """The parent's end of one child process: requests by its stdin, answers and open files by a socket."""

    def __init__(self, sample_rate: int, limits: DecodeLimits) -> None:
        self._sample_rate = sample_rate
        self._limits = limits
        self._unread = b""
        package_parent = str(Path(samplecnn.__file__).resolve().parent.parent)
        path = [package_parent, os.environ.get("PYTHONPATH", "")]
        # BLAS would reserve address space for a thread a core, and no product here is large enough to share out.
        env = {**os.environ, **FAST_MEMORY, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        env["OPENBLAS_NUM_THREADS"] = "1"
        self._answers, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        with theirs:
            self._process = subprocess.Popen(
                # -P: a numpy.py in the working folder is not ours. Its own session: Ctrl-C reaches the parent alone.
                [sys.executable, "-P", "-m", "samplecnn.audio.child", str(theirs.fileno()), str(limits.memory_mb)],
                stdin=subprocess.PIPE,
                stdout=self._stderr,  # what a library prints is no answer
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
                env=env,
                start_new_session=True,
            )
        self.is_idle = False
        try:
            self._answer(START_LIMIT_S)
        except RecordingError as error:
            reason = self._last_words() or error.message
            self.close()
            raise JobError(f"the decoder does not start: {reason}") from None
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        assert self._process.stdin is not None
        if not self.is_idle:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # an idle child ends at the end of its input
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._stderr.close()

    def decode(self, path: str, limit_s: float) -> Decoded:
        assert self._process.stdin is not None
        request = Request(path, self._sample_rate, self._limits.max_hours)
        self.is_idle = False
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells how it died
            self._process.stdin.write(json.dumps(request.__dict__).encode() + b"\n")
            self._process.stdin.flush()
        answer, files = self._answer(limit_s)
        with contextlib.ExitStack() as opened:
            maps = []
            for file in files:
                opened.callback(os.close, file)  # the mapping outlives it
                maps.append(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
        if "error" in answer:
            raise RecordingError(*answer["error"])
        samples_T = np.frombuffer(maps[0], np.float32)
        frame_power_F = np.frombuffer(maps[1], np.float64).copy()  # a mapping keeps a file open: one is enough
        return Decoded(samples_T, self._sample_rate, frame_power_F, **answer | {"warnings": tuple(answer["warnings"])})

    def _answer(self, limit_s: float) -> tuple[dict[str, Any], list[int]]:
        """The child's next line, and the open files that came with it. RecordingError if it dies or time is up."""
        deadline = time.monotonic() + limit_s
        files: list[int] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    # Not permanent: a crowded machine or slow storage can be the cause as well as the file.
                    raise RecordingError("decode", f"not decoded within {limit_s:.0f} s", False)
                try:
                    received, more, _, _ = socket.recv_fds(self._answers, 65_536, 2)
                except ConnectionResetError:
                    received, more = b"", []
                if not received:
                    raise self._death()
                self._unread += received
                files += more
        line, _, self._unread = self._unread.partition(b"\n")
        self.is_idle = True
        answer: dict[str, Any] = json.loads(line)
        return answer, files

    def _death(self) -> RecordingError:
        code = self._process.wait()
        if code == MEMORY_EXIT:
            return RecordingError("decode", f"decoding needs more than {self._limits.memory_mb} MB of memory")
        if code < 0:
            sign = signal.Signals(-code)
            return RecordingError("decode", f"the decoder was stopped by {sign.name}", sign in CRASHES)
        return RecordingError("decode", f"the decoder failed: {self._last_words() or f'exit code {code}'}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:400] if lines else ""


def os_reason(error: OSError | ValueError) -> str:
    """What the system says, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
