"""The child process that decodes: demux, decode, mono, resample, frame powers; block by block.

Started by audio.Decoder as `python -m samplecnn.audio.child SOCKET MEMORY_MB`. A crash here costs one recording. What
is wrong with a file but leaves it usable is counted and becomes a warning; nothing is shortened without a word.
"""

import errno
import json
import math
import os
import queue
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
import soxr

from samplecnn.audio import MEMORY_EXIT, Request, os_reason
from samplecnn.audio.declared import declared_seconds
from samplecnn.contract import FRAME_S
from samplecnn.errors import RecordingError

# Dimensions: T samples, F frames of FRAME_S.
Float32 = npt.NDArray[np.float32]

# An allow-list, by FFmpeg's names: playlists, concat scripts and HLS open other files or the network, and anything
# that is not audio can be probed as something else. Video decoders are never opened.
CONTAINERS = "wav,w64,aiff,au,caf,flac,mp3,ogg,mov,aac,asf,matroska,amr,ac3,eac3"
CODEC_NAMES = (
    "flac,alac,vorbis,opus,libopus,mp1,mp1float,mp2,mp2float,mp3,mp3float,aac,aac_fixed,aac_latm,ac3,ac3_fixed,eac3,"
    "amrnb,amrwb,wmav1,wmav2,wmapro,wmalossless,wmavoice,gsm,gsm_ms"
)
CODECS = {
    *CODEC_NAMES.split(","),
    *(name for name in av.codecs_available if name.startswith(("pcm_", "adpcm_"))),
}

BLOCK_SAMPLES = 65_536  # 1.5 s; with 16k blocks the whole path costs 8 to 15 % more CPU, with 8k 15 to 20 %
SOURCE_RATES = (1_000, 768_000)  # Hz; outside, a header is broken
NO_SOUND = 1e9  # a sample beyond +180 dBFS is damage like NaN; 24-bit integers stored as floats reach 8e6
LOUD_PEAK = 4.0  # full scale is 1; decoded lossy files reach 2, corrupt ones thousands
SPARSE = 7  # one sample in so many tells the powers of channels; no period of music comes near it
CANCELLED = 0.1  # share of the power that unrelated channels would keep in the mean
MISSING_S = (0.25, 1.0)  # seconds that codec padding may account for, and that are told however long the file
MISSING_SHARE = 0.02


class _FramePower:
    """Mean squares per frame of FRAME_S, fed block by block.

    Frame k begins at sample round(k * FRAME_S * rate), so that frames stay on the clock at 22,050 Hz (1,102.5 samples).
    """

    def __init__(self, rate: int) -> None:
        self._frame = FRAME_S * rate
        self._seen = 0
        self._sums: list[npt.NDArray[np.float64]] = []
        self._open = 0.0  # sum of the frame that is not full yet
        self._full = 0  # frames that are

    def add(self, mono_T: Float32) -> None:
        end = self._seen + len(mono_T)
        # Boundaries within [seen, end): the open frame started before or at `seen`.
        edges = np.rint(np.arange(self._full + 1, int(end / self._frame) + 2) * self._frame).astype(np.int64)
        edges = edges[edges < end] - self._seen
        squares = mono_T * mono_T
        if len(edges) == 0:
            self._open += float(squares.sum())
        else:
            sums = np.add.reduceat(
                squares, edges
            )  # a frame is a few thousand samples: float32 is as exact, and twice as fast
            self._open += float(squares[: edges[0]].sum())
            self._sums.append(np.concatenate([[self._open], sums[:-1]], dtype=np.float64))
            self._open = float(sums[-1])
            self._full += len(edges)
        self._seen = end

    def finish(self) -> npt.NDArray[np.float64]:
        sums = np.concatenate([*self._sums, [self._open]])
        edges = np.append(np.rint(np.arange(len(sums)) * self._frame), self._seen)
        power: npt.NDArray[np.float64] = sums / np.diff(edges)
        return power


class _Recording:
    """One file on its way through the child: what was found in it, and what was wrong with it."""

    def __init__(self, request: Request, file: BinaryIO, channel: int | None = None) -> None:
        self._request = request
        self._file = file
        self._channel = channel  # None: the mean of all
        self.source_rate = 0
        self.channels = 0
        self.codec = ""
        self.samples = 0  # at the source's rate
        self._declared_s: float | None = None
        self._bad_packets = 0
        self._not_numbers = 0
        self._peak = 0.0
        self._changes = False
        self._mix_power = 0.0
        self._unrelated_power = 0.0  # what the mix would have if the channels had nothing in common
        self._channel_power: list[float] = []

    def decode(self, out: BinaryIO, powers: BinaryIO) -> None:
        """Write the resampled mono (float32) and the frame powers (float64). Raises RecordingError."""
        power: _FramePower | None = None
        resampler: Any = None
        for channels in self._blocks():
            if power is None:
                power = _FramePower(self.source_rate)
                resampler = soxr.ResampleStream(self.source_rate, self._request.sample_rate, 1, "float32", "HQ")
            mono_T = self._mono(channels)
            self.samples += len(mono_T)
            if self.samples > self._request.max_hours * 3600 * self.source_rate:
                raise RecordingError("decode", f"longer than {self._request.max_hours:g} hours")
            power.add(mono_T)
            out.write(resampler.resample_chunk(mono_T).data)
        if power is None:
            bad = f" ({self._bad_packets} bad packets)" if self._bad_packets else ""
            raise RecordingError("decode", f"no sound in it: 0 samples decoded{bad}")
        out.write(resampler.resample_chunk(np.empty(0, np.float32), last=True).data)
        if out.tell() == 0:
            raise RecordingError("decode", f"too short: {self.samples} samples at {self.source_rate} Hz")
        powers.write(power.finish().data)

    def _blocks(self) -> Iterator[list[Float32]]:
        """The channels of one block after another, as floats, at the rate of the first frame."""
        try:
            container = av.open(
                self._file,  # never a path: nothing but these bytes can be opened
                metadata_errors="ignore",
                container_options={
                    "format_whitelist": CONTAINERS,
                    "codec_whitelist": ",".join(sorted(CODECS)),
                    "protocol_whitelist": "none",
                    # By default a wav's first 32 packets are searched for other codecs: 30 ms a file.
                    "max_probe_packets": "1",
                },
            )
        except av.error.MemoryError:
            raise
        except av.FFmpegError as error:
            raise RecordingError("decode", f"not audio, or broken: {error.strerror}") from None
        with container:
            if not container.streams.audio:
                raise RecordingError("decode", "no audio in it")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise RecordingError("decode", "a codec that FFmpeg does not know")
            self.codec = stream.codec_context.codec.canonical_name
            if stream.codec_context.codec.name not in CODECS:
                raise RecordingError("decode", f"the codec {self.codec} is not read")
            stream.codec_context.thread_count = 1
            yield from self._joined(self._frames(container, stream))
            if self.source_rate:
                self._declared_s = declared_seconds(self._file, container, stream, self.samples / self.source_rate)

    def _joined(self, frames: Iterator[Any]) -> Iterator[list[Float32]]:
        """Frames as blocks of floats. Those that have the first one's form, all in a sound file, are queued as they
        are: to convert them one by one in FFmpeg's resampler took a third of the time of an mp3."""
        queued = av.AudioFifo()
        resampler: Any = None
        first: tuple[object, ...] = ()  # FFmpeg's queue believes that all frames are alike, and reads beyond their ends
        form: tuple[object, ...] = ()
        for frame in frames:
            frame_form = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
            if not first:
                first, (self.source_rate, self.channels, _) = frame_form, frame_form
                if not SOURCE_RATES[0] <= self.source_rate <= SOURCE_RATES[1]:
                    raise RecordingError("decode", f"a sample rate of {self.source_rate} Hz is not audio")
            if resampler is None and frame_form == first:
                frame.pts = None  # a gap in the clock is no error here
                queued.write(frame)
                if queued.samples >= BLOCK_SAMPLES:
                    yield from _floats(queued.read_many(BLOCK_SAMPLES))
                continue
            if frame_form != form:
                self._changes = True
                yield from _floats(
                    resampler.resample(None) if resampler else queued.read_many(BLOCK_SAMPLES, partial=True)
                )
                resampler, form = av.AudioResampler("fltp", frame.layout, self.source_rate, BLOCK_SAMPLES), frame_form
            yield from _floats(resampler.resample(frame))
        yield from _floats(resampler.resample(None) if resampler else queued.read_many(BLOCK_SAMPLES, partial=True))

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Decoded frames; packets that cannot be decoded are counted, a broken container ends the sound."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.MemoryError:
                raise
            except av.FFmpegError:
                self._bad_packets += 1  # after an error of demux itself, the generator is at its end
                continue
            yield from frames

    def _mono(self, channels: list[Float32]) -> Float32:
        low, high = _range(channels)
        if not (low >= -NO_SOUND and high <= NO_SOUND):  # NaN compares false
            damaged_T = np.any([~(np.abs(wave_T) <= NO_SOUND) for wave_T in channels], axis=0)
            self._not_numbers += int(damaged_T.sum())
            channels = [np.where(np.abs(wave_T) <= NO_SOUND, wave_T, np.float32(0)) for wave_T in channels]
            low, high = _range(channels)
        self._peak = max(self._peak, -low, high)
        if self._peak > LOUD_PEAK and not self.codec.startswith("pcm_"):
            # A broken packet of a lossy codec; it would set the level of the whole recording. (PCM may be scaled so.)
            channels = [np.clip(wave_T, -LOUD_PEAK, LOUD_PEAK) for wave_T in channels]
        count = len(channels)
        if count == 1 or self._channel is not None:
            return channels[min(self._channel or 0, count - 1)]
        # A sum over channels: numpy's mean cost 30 times as much on stereo, and FFmpeg's own downmix is 1.41 times too
        # loud for stereo, 4 times for 5.1.
        mono_T = channels[0] + channels[1]
        for wave_T in channels[2:]:
            mono_T += wave_T
        mono_T *= np.float32(1 / count)
        powers = [_sparse_power(wave_T) for wave_T in channels]
        self._mix_power += _sparse_power(mono_T)
        self._unrelated_power += sum(powers) / count**2
        self._channel_power += [0.0] * (count - len(self._channel_power))
        for index, power in enumerate(powers):
            self._channel_power[index] += power
        return mono_T

    def cancelled_channel(self) -> int | None:
        """The loudest channel, 0-based, if the channels cancel each other in the mean; else None."""
        if self._mix_power < CANCELLED * self._unrelated_power:
            return int(np.argmax(self._channel_power))
        return None

    def answer(self) -> dict[str, Any]:
        duration_s = self.samples / self.source_rate
        return {
            "duration_s": duration_s,
            "source_rate": self.source_rate,
            "channels": self.channels,
            "codec": self.codec,
            "warnings": list(self._warnings(duration_s)),
        }

    def _warnings(self, duration_s: float) -> Iterator[str]:
        declared_s = self._declared_s
        if declared_s == math.inf:
            yield f"decoded in part: {duration_s:.1f} s, the end is lost"
        elif declared_s is not None:
            missing_s = declared_s - duration_s
            padding_s, always_s = MISSING_S
            if missing_s > min(always_s, max(padding_s, MISSING_SHARE * declared_s)):
                yield f"decoded in part: {duration_s:.1f} of {declared_s:.1f} s"
        if self._bad_packets:
            yield f"damaged: {self._bad_packets} bad packets"
        if self._not_numbers:
            yield f"{self._not_numbers} samples are not numbers and count as silence"
        if self._peak > LOUD_PEAK:
            yield f"far above full scale: peak {self._peak:.0f}"
        if self._channel is not None:
            yield f"channels cancel each other: channel {self._channel + 1} taken"
        if self._changes:
            yield "sample rate or channels change midway"


# What full scale is, by sample format; float formats have 1.
FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63}
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


def _range(channels: list[Float32]) -> tuple[float, float]:
    """The lowest and the highest sample; NaN if there is one (Python's min would lose it)."""
    return (
        float(np.min([wave_T.min() for wave_T in channels])),
        float(np.max([wave_T.max() for wave_T in channels])),
    )


def _sparse_power(wave_T: Float32) -> float:
    sparse_T = wave_T[::SPARSE]
    return float(np.dot(sparse_T, sparse_T))


def _floats(frames: Iterable[Any]) -> Iterator[list[Float32]]:
    """Each frame's channels, full scale 1; views of the frame where it holds floats."""
    for frame in frames:
        name = frame.format.name.removesuffix("p")
        count, planar = frame.layout.nb_channels, frame.format.is_planar
        # By hand: of 8 planar channels PyAV finds 9, the last of them anywhere in memory.
        planes = frame.planes[:count] if planar else frame.planes[:1]
        samples = frame.samples * (1 if planar else count)
        arrays = [np.frombuffer(plane, DTYPES[name], samples) for plane in planes]
        channels = arrays if planar else arrays[0].reshape(frame.samples, count).T
        yield [_as_floats(wave_T, name) for wave_T in channels]


def _as_floats(wave_T: npt.NDArray[Any], name: str) -> Float32:
    if wave_T.dtype == np.uint8:
        wave_T = wave_T.astype(np.float32) - np.float32(FULL_SCALE[name])
    floats_T: Float32 = wave_T.astype(np.float32, copy=False)
    return floats_T * np.float32(1 / FULL_SCALE[name]) if name in FULL_SCALE else floats_T


def _decode(request: Request, out: BinaryIO, powers: BinaryIO) -> dict[str, Any]:
    try:
        with open(request.path, "rb") as file:
            recording = _Recording(request, file)
            recording.decode(out, powers)
            channel = recording.cancelled_channel()
            if channel is not None:  # rare, so a second pass rather than every channel kept
                for stale in (file, out, powers):
                    stale.seek(0)
                recording = _Recording(request, file, channel)
                recording.decode(out, powers)
            out.flush()
            powers.flush()
            return recording.answer()
    except RecordingError as error:
        return {"error": error.args}
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):  # of a seek to where no file reaches: the file says so
            return {"error": ("decode", "it names a place that lies beyond its end")}
        return _without_room(error)


def _without_room(error: OSError) -> dict[str, Any]:
    """The file went away, or there is no space for the samples."""
    return {"error": ("read", os_reason(error), False)}


def _serve(answers: socket.socket, memory_mb: int) -> None:
    """Answer requests from stdin until it ends."""
    av.logging.set_level(None)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    # BLAS takes its buffer at the first large product: now, and not beyond the limit.
    _ = np.ones(2, np.float32) @ np.ones((BLOCK_SAMPLES, 2), np.float32).T
    if sys.platform == "linux":
        import resource

        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used_bytes + memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers.sendall(b"{}\n")
    while True:
        request = Request(**json.loads(requests.get()))
        told = False
        try:
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as powers:
                answer = _decode(request, out, powers)
                files = [] if "error" in answer else [out.fileno(), powers.fileno()]
                _tell(answers, answer, files)
                told = True
        except MemoryError:
            os._exit(MEMORY_EXIT)
        except OSError as error:  # no room for the files themselves; or, once told, for what is still to be flushed
            if not told:
                _tell(answers, _without_room(error))


def _tell(answers: socket.socket, answer: dict[str, Any], files: Sequence[int] = ()) -> None:
    # One short line: never more than the socket takes at once.
    socket.send_fds(answers, [json.dumps(answer).encode() + b"\n"], files)


def _listen(stdin: IO[str], requests: "queue.SimpleQueue[str]") -> None:
    """Hand on requests; at the end of the input leave at once, in the middle of a file too: the parent is gone.

    A thread rather than PR_SET_PDEATHSIG, which kills the child when the parent's *thread* ends, and only on Linux.
    """
    for line in stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
