"""Does a long recording cost more memory than a short one?

Question: the most memory that the decoder's child and its parent hold for 3 hours of sound and for 3 minutes.
Goal: at most 100 MB more. Noise guard: none needed, each case in a fresh process, peaks from the kernel (VmHWM).
The 3 hours are 60 copies of the 3 minutes, one after the other, in one mp3 file.

    python -m benchmarks memory
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Table, descendants, inputs_folder, peak_mb
from samplecnn.audio import Decoder
from samplecnn.segments import SegmentSettings, cut

ROOT = Path(__file__).parent.parent


def run(quick: bool) -> list[Table]:
    """One row a recording, and what the longer one costs more."""
    seconds, copies = (10.0, 6) if quick else (180.0, 60)
    short = _short(seconds)
    long = f"{short}.{copies}.mp3"
    if not os.path.exists(long):
        with open(f"{long}.partial", "wb") as joined:
            for _ in range(copies):
                with open(short, "rb") as part:
                    shutil.copyfileobj(part, joined)
        os.replace(f"{long}.partial", long)
    peaks = [_peaks(path) for path in (short, long)]
    rows: list[tuple[str | float, ...]] = [
        (f"{peak['seconds']:.0f} s", peak["child"], peak["parent"]) for peak in peaks
    ]
    rows.append(("more for the longer", *(peaks[1][name] - peaks[0][name] for name in ("child", "parent"))))
    return [Table("Peak memory of loading one recording (mp3)", ("recording", "child, MB", "parent, MB"), rows)]


def _short(seconds: float) -> str:
    # Here, not above: the process that is measured would carry it along, 100 MB of SciPy.
    from samplecnn.performances.corpus import CorpusSettings, plan_corpus, write_corpus

    settings = CorpusSettings(count=3, performers=3, formats="mp3", shortest_s=seconds, longest_s=seconds)
    plan = plan_corpus(settings)[:1]
    folder = inputs_folder(f"memory-{seconds:.0f}s")
    write_corpus(folder, plan)
    return os.path.join(folder, plan[0].name)


def _peaks(path: str) -> dict[str, float]:
    """In a process of its own: memory that was once held is never given back whole."""
    command = [sys.executable, "-m", "benchmarks.memory", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peaks: dict[str, float] = json.loads(done.stdout)
    return peaks


def _measure(path: str) -> None:
    settings = SegmentSettings()
    with Decoder(settings.sample_rate) as decoder:
        decoded = decoder.decode(path)
        for _ in cut("long", "1", decoded, settings):
            pass
        (child,) = descendants()
        peaks = {"seconds": decoded.duration_s, "child": peak_mb(child), "parent": peak_mb(os.getpid())}
    print(json.dumps(peaks))


if __name__ == "__main__":
    _measure(sys.argv[1])
