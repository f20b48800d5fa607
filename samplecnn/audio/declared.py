"""How long a file says it is, for comparison with what could be decoded.

FFmpeg derives the duration of wav, caf, w64 and ogg from the bytes that are there, so that a truncated file looks
whole, and guesses that of others from the bit rate. Here the headers themselves are asked; the rest is FFmpeg's.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av

NO_DURATION = {"aac", "ac3", "eac3", "amr"}  # containers that declare no length
CLOCK = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:\.[0-9]*)?)")  # a tag of Matroska; damaged, it says nothing
LONGEST_OGG_PAGE = 65_307  # bytes
LOST_OGG_S = 0.25  # between the last page and the last that FFmpeg took: more is damage, less is codec delay


@dataclass(frozen=True, kw_only=True)
class _ChunkForm:
    """How a container of named chunks spells them."""

    start: int  # bytes before the first chunk
    name_bytes: int
    size_bytes: int
    order: Any  # "little" or "big"
    counts_header: bool = False  # is the chunk's own header part of its size?
    align: int = 1


CHUNKED = {
    "wav": _ChunkForm(start=12, name_bytes=4, size_bytes=4, order="little", align=2),
    "w64": _ChunkForm(start=40, name_bytes=16, size_bytes=8, order="little", counts_header=True, align=8),
    "caf": _ChunkForm(start=8, name_bytes=4, size_bytes=8, order="big"),
}


def declared_seconds(file: BinaryIO, container: Any, stream: Any, decoded_s: float) -> float | None:
    """The duration that the file declares; None: it does not say; inf: its end is lost, who knows how much.

    file: the bytes, from which container (av's, wholly read) and its audio stream come.
    """
    name = container.format.name
    stream_s = None if stream.duration is None else float(stream.duration * stream.time_base)
    if name in NO_DURATION:
        return None
    if name in CHUNKED:
        return decoded_s * _declared_share(file, CHUNKED[name])
    if name == "mp3":
        return stream_s if _mp3_declares_length(file) else None
    if name == "ogg":
        return math.inf if _ogg_end_is_lost(file, container, stream, stream_s or decoded_s) else stream_s
    if stream_s is None and name.startswith("matroska"):
        if clock := CLOCK.fullmatch(stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, clock.groups())
            return hours * 3600 + minutes * 60 + seconds
        if len(container.streams) == 1 and container.duration is not None:  # else it may be a picture's length
            return float(container.duration / av.time_base)
    return stream_s


def _chunks(file: BinaryIO, form: _ChunkForm) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of each chunk."""
    position, header_bytes = form.start, form.name_bytes + form.size_bytes
    end = file.seek(0, os.SEEK_END)
    while position < end:  # no system seeks as far as a header may say
        file.seek(position)
        header = file.read(header_bytes)
        if len(header) < header_bytes:
            return
        size_bytes = int.from_bytes(header[form.name_bytes :], form.order)
        start = position + header_bytes
        length = max(0, size_bytes - header_bytes) if form.counts_header else size_bytes
        yield header[:4], start, length
        position = start + -(-length // form.align) * form.align


def _declared_share(file: BinaryIO, form: _ChunkForm) -> float:
    """Bytes of sound that the header declares for each that is there; 1 where it does not know."""
    there_bytes = file.seek(0, os.SEEK_END)
    long_bytes = 0
    for name, start, length in _chunks(file, form):
        if name == b"ds64":  # RF64: the true length of a data chunk beyond 4 GB (EBU Tech 3306)
            file.seek(start + 8)
            long_bytes = int.from_bytes(file.read(8), "little")
        if name == b"data":
            # Programs that write to a pipe leave 0, -1 or a number near the type's end, such as 0x7FFFF000.
            unknown = length == 0 or length >= (1 << 8 * form.size_bytes - 1) - 65_536
            if long_bytes or not unknown:
                return max(1.0, (long_bytes or length) / max(1, there_bytes - start))
            return 1.0
    return 1.0


def _ogg_end_is_lost(file: BinaryIO, container: Any, stream: Any, known_s: float) -> bool:
    """Is the last page not the end of the stream, or incomplete, or broken so that FFmpeg left it out?

    RFC 3533, section 6: byte 5 holds flags (4: end of stream), 6-13 the granule position, 14-17 the stream's number.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    number = file.read(18)[14:]
    file.seek(max(0, size_bytes - 2 * LONGEST_OGG_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27] if page >= 0 else b""
    if len(header) < 27:
        return True
    lacing = tail[page + 27 : page + 27 + header[26]]
    if not header[5] & 4 or len(lacing) < header[26] or page + 27 + header[26] + sum(lacing) > len(tail):
        return True
    if len(container.streams) > 1 or header[14:18] != number:
        return False  # the last page belongs to another stream, whose clock is its own
    end_s = (int.from_bytes(header[6:14], "little") - (stream.start_time or 0)) * float(stream.time_base)
    return end_s - known_s > LOST_OGG_S


def _mp3_declares_length(file: BinaryIO) -> bool:
    """Has the first frame a Xing, Info or VBRI header? Without, FFmpeg guesses the length from the bit rate."""
    file.seek(0)
    head = file.read(10)
    tag_bytes = 0
    if head[:3] == b"ID3" and len(head) == 10:  # ID3v2.4, section 3.1: four bytes of seven bits
        tag_bytes = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(tag_bytes)
    first = file.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))
