"""What does preparing cost beside what people do otherwise?

Question: seconds of sound per CPU second from a file to segments at 500 Hz on the disk, for each kind of file.
Peers: librosa.load at 500 Hz, cut, saved with numpy, which is what the preprocessing scripts of SampleCNN's
re-implementations do (mp3 through soundfile; m4a through audioread and the ffmpeg program); and soundfile with
scipy's resample_poly. Ours: the function that a prepare worker calls, with levels, activity and the Parquet shard.
Noise guard: CPU seconds of the process and of all that it starts, every round takes all files and contestants in turn,
medians; imports and compilation are over before the first round that counts.

    python -m benchmarks peers
"""

import itertools
import json
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from math import gcd
from pathlib import Path

import imageio_ffmpeg
import librosa
import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

from benchmarks.decode import QUICK_SECONDS, SECONDS, one_of_each_format
from benchmarks.measure import Table, cpu_s, descendants, median, rounds, spread
from samplecnn.commits import ITEMS_SCHEMA
from samplecnn.pipelines.prepare import ShardCutter
from samplecnn.recordings import plan
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store

SETTINGS = SegmentSettings()
NOT_READ = "cannot read it"
WITHOUT_M4A = ("wav", "flac", "mp3", "ogg")


def run(quick: bool) -> list[Table]:
    """One row a format."""
    seconds = QUICK_SECONDS if quick else SECONDS
    files = one_of_each_format(seconds)
    contestants: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        _put_ffmpeg_on_the_path(work)
        saved = os.path.join(work, "saved.npy")
        ours = _Ours(work, files)
        for kind, path in files.items():
            contestants[f"{kind} ours"] = lambda kind=kind: ours.prepare(kind)
            contestants[f"{kind} librosa"] = lambda path=path: _spent(lambda: np.save(saved, _librosa(path)))
            if kind in WITHOUT_M4A:
                contestants[f"{kind} scipy"] = lambda path=path: _spent(lambda: np.save(saved, _scipy(path)))
        times = rounds(contestants, count=1 if quick else 7)
    rows: list[tuple[str | float, ...]] = []
    for kind in files:
        mine, theirs = times[f"{kind} ours"], times[f"{kind} librosa"]
        ratio = [peer / own for peer, own in zip(theirs, mine, strict=True)]
        scipy_rate = seconds / median(times[f"{kind} scipy"]) if kind in WITHOUT_M4A else NOT_READ
        rates = (seconds / median(theirs), scipy_rate, seconds / median(mine))
        rows.append((kind, *rates, median(ratio), spread(ratio)))
    for name, kinds in (("all", tuple(files)), ("all but m4a", WITHOUT_M4A)):
        theirs_s, mine_s = (sum(median(times[f"{kind} {who}"]) for kind in kinds) for who in ("librosa", "ours"))
        scipy_s = sum(median(times[f"{kind} scipy"]) for kind in WITHOUT_M4A)
        sound_s = seconds * len(kinds)
        scipy_rate = NOT_READ if "m4a" in kinds else sound_s / scipy_s
        rows.append((name, sound_s / theirs_s, scipy_rate, sound_s / mine_s, theirs_s / mine_s, ""))
    unit = "s of sound a CPU s"
    return [
        Table(
            f"From a file to segments on the disk, {seconds:.0f} s of stereo at 48 kHz to {SETTINGS.sample_rate} Hz",
            ("format", f"librosa, {unit}", f"soundfile + scipy, {unit}", f"ours, {unit}", "ours of librosa", "from to"),
            rows,
        )
    ]


class _Ours:
    """A prepare worker over one file of each format, its decoder's child started by a first shard."""

    def __init__(self, work: str, files: dict[str, str]) -> None:
        source, target = (
            open_store(str(Path(next(iter(files.values()))).parent)),
            open_store(os.path.join(work, "ours")),
        )
        names = {os.path.basename(path): kind for kind, path in files.items()}
        todo = plan(source, ITEMS_SCHEMA.empty_table()).todo
        self._items = {names[item.name]: json.dumps([vars(item)]) for item in todo}
        self._worker, self._number = ShardCutter(source, target, SETTINGS, "bench"), itertools.count()
        before = set(descendants())
        self._shard(next(iter(files)))
        (self._child,) = set(descendants()) - before

    def prepare(self, kind: str) -> float:
        """CPU seconds for one file, as a shard of its own."""
        start = time.process_time() + cpu_s(self._child)
        self._shard(kind)
        return time.process_time() + cpu_s(self._child) - start

    def _shard(self, kind: str) -> None:
        for staged in self._worker({"name": [f"{next(self._number)}.parquet"], "items": [self._items[kind]]}):
            assert staged["rows"] != [0], staged


def _spent(prepare: Callable[[], None]) -> float:
    """CPU seconds of this process and of children that have ended."""
    start = _clock()
    prepare()
    return _clock() - start


def _clock() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _librosa(path: str) -> npt.NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that audioread, which reads m4a, is to go
        wave_T, _ = librosa.load(path, sr=SETTINGS.sample_rate, mono=True)
    return _segments(wave_T)


def _scipy(path: str) -> npt.NDArray[np.float32]:
    wave_TC, rate = soundfile.read(path, dtype="float32", always_2d=True)
    common = gcd(rate, SETTINGS.sample_rate)
    return _segments(resample_poly(wave_TC.mean(axis=1), SETTINGS.sample_rate // common, rate // common))


def _segments(wave_T: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = SETTINGS.segment_samples
    segments_ST: npt.NDArray[np.float32] = np.resize(
        wave_T[: len(wave_T) // length * length], (len(wave_T) // length, length)
    )
    return segments_ST


def _put_ffmpeg_on_the_path(folder: str) -> None:
    """The program that audioread calls, from a wheel."""
    os.symlink(imageio_ffmpeg.get_ffmpeg_exe(), os.path.join(folder, "ffmpeg"))
    os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
