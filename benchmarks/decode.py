"""How near is our loader to the cost of decoding alone?

Question: seconds of sound per CPU second from a file to rows of segments (audio.Decoder and segments.cut: decode,
mono, levels at the full rate, resample to 500 Hz, cut), for each kind of file.
Floor: PyAV decoding the same file and throwing the samples away, opened as fast as it opens, in the same rounds.
Noise guard: CPU seconds of this process and of the decoder's child, every round takes all files and both contestants in
turn, medians. The child's start is left out (it is paid once a worker) and reported by itself.

    python -m benchmarks decode
"""

import itertools
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace

import av

from benchmarks.measure import Table, cpu_s, descendants, inputs_folder, median, rounds, spread
from samplecnn.audio import Decoder
from samplecnn.performances.corpus import CorpusSettings, plan_corpus, write_corpus
from samplecnn.performances.files import FORMATS
from samplecnn.segments import SegmentSettings, cut

SETTINGS = SegmentSettings()
SECONDS, QUICK_SECONDS = 120.0, 10.0
RATE = 48_000  # the one that all formats take
FASTEST = {"max_probe_packets": "1"}  # FFmpeg otherwise reads 32 packets of a wav for codecs that may hide in it: 30 ms


def one_of_each_format(seconds: float) -> dict[str, str]:
    """The same music as a stereo file of each format, by format; written once and kept."""
    planned = plan_corpus(CorpusSettings(count=3, performers=3, shortest_s=seconds, longest_s=seconds))[0]
    plan = [replace(planned, name=f"music.{kind}", format=kind, sample_rate=RATE, channels=2) for kind in FORMATS]
    folder = inputs_folder(f"formats-{seconds:.0f}s")
    write_corpus(folder, plan)
    return {kind: os.path.join(folder, f"music.{kind}") for kind in FORMATS}


def copies_of_each_format(folder: str, seconds: float, count: int) -> str:
    """So many recordings in a folder, all formats in turn."""
    os.makedirs(folder)
    for number, (kind, path) in zip(range(count), itertools.cycle(one_of_each_format(seconds).items())):
        shutil.copyfile(path, os.path.join(folder, f"take {number:03}.{kind}"))
    return folder


def run(quick: bool) -> list[Table]:
    """One row a format."""
    seconds = QUICK_SECONDS if quick else SECONDS
    files = one_of_each_format(seconds)
    with Decoder(SETTINGS.sample_rate) as decoder:
        before = set(descendants())
        decoder.decode(files["wav"])
        (child,) = set(descendants()) - before
        start_s = cpu_s(child)
        contestants: dict[str, Callable[[], float]] = {}
        for kind, path in files.items():
            contestants[f"{kind} floor"] = lambda path=path: decoding_alone(path)
            contestants[f"{kind} loader"] = lambda path=path: _loader(decoder, child, path)
        times = rounds(contestants, count=2 if quick else 9)
    rows: list[tuple[str | float, ...]] = []
    for kind in files:
        floor, loader = times[f"{kind} floor"], times[f"{kind} loader"]
        ratio = [low / high for low, high in zip(floor, loader, strict=True)]
        rows.append(
            (kind, seconds / median(floor), seconds / median(loader), median(ratio), spread(ratio), median(loader))
        )
    floor_s, loader_s = (sum(median(times[f"{kind} {name}"]) for kind in files) for name in ("floor", "loader"))
    rows.append(
        ("all", seconds * len(files) / floor_s, seconds * len(files) / loader_s, floor_s / loader_s, "", loader_s)
    )
    columns = ("format", "decoding alone, s of sound a CPU s", "loader, s of sound a CPU s", "loader of floor")
    return [
        Table(
            f"Loader against decoding alone, {seconds:.0f} s of stereo at {RATE} Hz to {SETTINGS.sample_rate} Hz",
            (*columns, "from to", "loader, CPU s"),
            rows,
        ),
        Table("Once a worker", ("what", "CPU s"), [("start of the decoder's child, first file included", start_s)]),
    ]


def decoding_alone(path: str) -> float:
    """CPU seconds of PyAV decoding a file, opened as fast as it opens, and throwing the samples away."""
    start = time.process_time()
    with av.open(path, container_options=FASTEST) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        for _ in container.decode(audio=0):
            pass
    return time.process_time() - start


def _loader(decoder: Decoder, child: int, path: str) -> float:
    start = time.process_time() + cpu_s(child)
    for _ in cut("music", "1", decoder.decode(path), SETTINGS):
        pass
    return time.process_time() + cpu_s(child) - start
