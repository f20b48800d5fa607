"""Broken audio files without end, through decoding and cutting: each must end as segments or as a reason.

Valid files of every format are mutated (bits, lengths in headers, pieces lost, doubled, zeroed or taken from another
format) by a seed, so that what was found can be found again. Whatever the file holds: no exception but RecordingError
in the parent and none that was not foreseen in the child, no decoding beyond its time, its memory or its hours, every
sample in a row and finite, and what a truncated file lost is told. A crash inside FFmpeg is counted: it costs one
recording.

    python -m tests.fuzz_audio --inputs 20000      (some minutes; prints a table, exit code 1 where a promise is broken)
"""

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from samplecnn.audio import Decoded, DecodeLimits, Decoder
from samplecnn.contract import VALID_SAMPLES, WAVEFORM
from samplecnn.errors import RecordingError
from samplecnn.segments import SegmentSettings, cut
from tests.fixtures.audio import ENCODERS, noise, write_audio

SETTINGS = SegmentSettings()
LIMITS = DecodeLimits(max_hours=0.5, memory_mb=512, base_s=20.0, per_mb_s=0.0)
SLACK_S = 10.0  # to kill a child on a crowded machine
SECONDS, RATE = 3.0, 22_050
RATES = {"opus": 48_000, "webm": 48_000}  # Opus has its own
# How much a truncated file may lose without a word: codec delay, and a last frame that cannot be told from an end.
UNTOLD_S = 0.3
# They declare no length, so that nobody can tell that the end is missing.
NO_LENGTH = {"aac"}
HEADER_BYTES = 512
EXTREMES = (0, 1, 2, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

REASONS = {
    "stopped by": "crashed",
    "not decoded within": "late",
    "MB of memory": "too large",
    "hours": "too long",
}

Bytes = bytearray
TRUNCATED = "truncated"


def _flip_bits(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    for _ in range(draw.randint(1, 32)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _flip_header(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(min(HEADER_BYTES, len(data)))] = draw.randrange(256)
    return data


def _extreme_number(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    width = draw.choice((1, 2, 4, 8))
    number = draw.choice(EXTREMES) % (1 << 8 * width)
    place = draw.randrange(min(HEADER_BYTES, len(data) - width))
    data[place : place + width] = number.to_bytes(width, draw.choice(("little", "big")))
    return data


def _truncate(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    return data[: draw.randrange(1, len(data))]


def _lose(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    start, length = _piece(data, draw)
    del data[start : start + length]
    return data


def _double(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    start, length = _piece(data, draw)
    data[start:start] = data[start : start + length] * draw.choice((1, 1, 50))
    return data


def _zero(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    start, length = _piece(data, draw)
    data[start : start + length] = bytes(length)
    return data


def _scramble(data: Bytes, draw: random.Random, _: bytes) -> Bytes:
    start, length = _piece(data, draw)
    data[start : start + length] = draw.randbytes(length)
    return data


def _splice(data: Bytes, draw: random.Random, other: bytes) -> Bytes:
    return data[: draw.randrange(len(data))] + Bytes(other[draw.randrange(len(other)) :])


def _piece(data: Bytes, draw: random.Random) -> tuple[int, int]:
    length = min(len(data) - 1, int(2 ** draw.uniform(0, math.log2(len(data)))))
    return draw.randrange(len(data) - length), length


MUTATIONS: dict[str, Callable[[Bytes, random.Random, bytes], Bytes]] = {
    "bits": _flip_bits,
    "header": _flip_header,
    "extreme number": _extreme_number,
    TRUNCATED: _truncate,
    "piece lost": _lose,
    "piece doubled": _double,
    "piece zeroed": _zero,
    "piece scrambled": _scramble,
    "spliced": _splice,
}


@dataclass
class Found:
    """Counts of outcomes, [format, outcome], and every broken promise with the number of its input."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def table(self) -> str:
        """Formats down, outcomes across, as Markdown."""
        kinds = sorted({outcome for _, outcome in self.outcomes})
        lines = [f"| format | inputs | {' | '.join(kinds)} |", f"|---|{'---|' * (len(kinds) + 1)}"]
        names = sorted({name for name, _ in self.outcomes})
        for name in (*names, "all"):
            counts = [
                sum(n for (here, outcome), n in self.outcomes.items() if outcome == kind and name in (here, "all"))
                for kind in kinds
            ]
            lines.append(f"| {name} | {sum(counts):,} | {' | '.join(f'{count:,}' for count in counts)} |")
        return "\n".join(lines)


def seeds(folder: Path) -> dict[str, bytes]:
    """A valid file of each format, stereo."""
    files = {}
    for suffix in ENCODERS:
        rate = RATES.get(suffix, RATE)
        files[suffix] = write_audio(folder / f"seed.{suffix}", noise(SECONDS, rate, 2), rate).read_bytes()
    return files


def mutants(files: dict[str, bytes], seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Format, names of its mutations, bytes; without end."""
    draw = random.Random(seed)
    suffixes, names = list(files), list(MUTATIONS)
    while True:
        suffix = draw.choice(suffixes)
        chosen = draw.choices(names, k=draw.choice((1, 1, 1, 2, 3)))
        data = Bytes(files[suffix])
        for name in chosen:
            if len(data) > 16:
                data = MUTATIONS[name](data, draw, files[draw.choice(suffixes)])
        yield suffix, ", ".join(chosen), bytes(data)


def fuzz(inputs: int, seed: int) -> Found:
    """Feed so many broken files, one Decoder for all, as a worker does."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work, Decoder(SETTINGS.sample_rate, LIMITS) as decoder:
        files = seeds(Path(work))
        path = Path(work, "mutant")
        stream = mutants(files, seed)
        for number in tqdm(range(inputs), unit=" files", disable=not sys.stderr.isatty()):
            suffix, mutations, data = next(stream)
            path.write_bytes(data)
            started = time.monotonic()
            try:
                decoded = decoder.decode(str(path))
                faults = list(_faults(decoded, suffix if mutations == TRUNCATED else None))
                outcome = "with a warning" if decoded.warnings else "segments"
            except RecordingError as error:
                outcome = _reason(error.message)
                faults = [error.message] if "the decoder failed" in error.message else []
            spent_s = time.monotonic() - started
            found.slowest_s = max(found.slowest_s, spent_s)
            if spent_s > LIMITS.base_s + SLACK_S:
                faults.append(f"took {spent_s:.0f} s")
            found.outcomes[suffix, outcome] += 1
            found.broken += [f"input {number} of seed {seed} ({suffix}, {mutations}): {fault}" for fault in faults]
    return found


def _faults(decoded: Decoded, truncated: str | None) -> Iterator[str]:
    """What is wrong with a file that decoded. truncated: its format, if its end was cut off and nothing else."""
    if decoded.duration_s > LIMITS.max_hours * 3600:
        yield f"decoded to {decoded.duration_s:.0f} s"
    if not np.isfinite(decoded.samples_T).all() or not np.isfinite(decoded.frame_power_F).all():
        yield "samples that are not numbers"
    valid = 0
    for rows in cut("mutant", "1", decoded, SETTINGS):
        valid += int(np.sum(rows[VALID_SAMPLES].to_numpy()))
        if not np.isfinite(rows[WAVEFORM].flatten().to_numpy()).all():
            yield "rows that are not numbers"
    if valid != len(decoded.samples_T):
        yield f"{len(decoded.samples_T)} samples, {valid} in rows"
    lost_s = SECONDS - decoded.duration_s
    if truncated and truncated not in NO_LENGTH and lost_s > UNTOLD_S and not decoded.warnings:
        yield f"shortened by {lost_s:.2f} s without a word"


def _reason(message: str) -> str:
    """A refusal without the figures in it."""
    return next((outcome for words, outcome in REASONS.items() if words in message), "refused")


def main() -> int:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = fuzz(args.inputs, args.seed)
    print(found.table())
    print(f"\nslowest: {found.slowest_s:.1f} s; {len(found.broken)} promises broken")
    print("\n".join(found.broken))
    return 1 if found.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
