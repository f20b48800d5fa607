"""Samples -> an audio file, whole or not at all, with a comment that says which plan it was made from."""

import os
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from samplecnn.performances.instrument import Samples


class Format(NamedTuple):
    """How a kind of file is written. rates: the sample rates it takes, Hz; bit_rate: bits a second, 0 if lossless."""

    container: str
    codec: str
    sample_format: str
    rates: tuple[int, ...]
    bit_rate: int


# Vorbis is missing from PyAV's wheels (av 18.1: only an experimental encoder), so ogg holds Opus.
FORMATS: dict[str, Format] = {
    "wav": Format("wav", "pcm_s16le", "s16", (44100, 48000), 0),
    "flac": Format("flac", "flac", "s16", (44100, 48000), 0),
    "mp3": Format("mp3", "libmp3lame", "fltp", (44100, 48000), 128_000),
    "ogg": Format("ogg", "libopus", "flt", (48000,), 96_000),
    "m4a": Format("ipod", "aac", "fltp", (44100, 48000), 128_000),
}

_CHUNK = 4096  # samples a frame, where the codec does not mind


def write_audio(path: str, samples_CT: Samples, sample_rate: int, comment: str) -> None:
    """Write float32 [channels, samples] under its final name, or leave no trace of it under that name.

    The kind of file follows the suffix (FORMATS). The same samples give the same bytes.
    """
    chosen = FORMATS[path.rpartition(".")[2]]
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")
    try:
        with av.open(partial, "w", format=chosen.container, container_options={"fflags": "+bitexact"}) as container:
            container.metadata["comment"] = comment
            _encode(container, samples_CT, sample_rate, chosen)
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _encode(container: Any, samples_CT: Samples, sample_rate: int, chosen: Format) -> None:
    channels, total = samples_CT.shape
    stream = container.add_stream(chosen.codec, rate=sample_rate)
    encoder = stream.codec_context
    encoder.format = chosen.sample_format
    encoder.layout = "mono" if channels == 1 else "stereo"
    encoder.time_base = Fraction(1, sample_rate)
    if chosen.bit_rate:
        encoder.bit_rate = chosen.bit_rate
    encoder.open()
    size = encoder.frame_size or _CHUNK
    for start in range(0, total, size):
        block = samples_CT[:, start : start + size]
        if chosen.sample_format == "s16":
            block = np.round(block * 32767.0).astype(np.int16)
        if not chosen.sample_format.endswith("p"):
            block = block.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format=chosen.sample_format, layout=encoder.layout.name
        )
        frame.sample_rate = sample_rate
        frame.pts = start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def is_intact(path: str, duration_s: float, comment: str) -> bool:
    """Is this a file that write_audio made from this plan, with all its packets? (Reads it; decodes nothing.)"""
    if not os.path.isfile(path):
        return False
    try:
        with av.open(path) as container:
            stream = container.streams.audio[0]
            base = stream.time_base or Fraction(1, stream.rate)
            there_s = float(sum(packet.duration or 0 for packet in container.demux(stream)) * base)
            written = {**container.metadata, **stream.metadata}
    except (av.error.FFmpegError, IndexError):
        return False
    tags = {key.lower(): value for key, value in written.items()}
    return tags.get("comment") == comment and there_s >= duration_s - 0.01
