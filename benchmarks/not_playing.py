"""Does speech get a grade? What a model that has learnt from piano playing makes of everything else. (By hand.)

Question: of recordings that are no playing, how many get no grade, and of real playing by people never heard, how many
get none? Learnt from 15 and from 60 generated recordings, at 500 and at 2000 Hz, by the very functions of training and
grading; every sound is a file that the loader decodes. Baseline: the same distance on the embedding of the starter
alone, at 500 Hz, cut so that 2 % of playing are beyond it. Noise guard: 40 sounds of each kind, all drawn anew.

    python scripts/render_midi.py --midi takes --table takes.csv --recordings pianists --labels pianists.csv \\
        --pianos timgm
    python -m benchmarks.not_playing --pianists pianists

Without --pianists their row is left out; without eSpeak NG (scripts/install_speech.sh) speech is.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import fftconvolve
from sklearn.covariance import LedoitWolf

from benchmarks.measure import Table
from benchmarks.trials import JOINED
from samplecnn.architecture import plan_for
from samplecnn.audio import Decoder
from samplecnn.contract import SILENT_SEGMENT_ACTIVITY, is_recording_name
from samplecnn.evaluation import NETWORKS
from samplecnn.infer import hear
from samplecnn.likeness import fit_likeness
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.performances.corpus import GRADES, CorpusSettings, PlannedRecording, plan_corpus, render_recording
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings, activity, audible_windows, seconds_of_playing
from samplecnn.sound import measures_of
from samplecnn.starter import new_network, starter_for

RATE = 16_000  # of the files, Hz
RATES = (500, 2000)
COUNT = 40  # sounds of a kind
LEARNT = {"15": CorpusSettings(), "60": CorpusSettings(count=60, performers=24, seed=1)}
LONG, SHORT = "unheard performers, 92 to 148 s", "unheard performers, 10 to 30 s"
UNHEARD = {
    LONG: CorpusSettings(count=150, performers=50, seed=21, first_performer=3000),
    SHORT: CorpusSettings(count=60, performers=30, seed=22, first_performer=4000, shortest_s=10.0, longest_s=30.0),
}
PIANISTS = "real pianists, sampled piano"
SPEECH = "speech"
GOAL = "**speech, noise and tones together**"
TURNED = ("music reversed", "music at half speed")  # reported: neither playing nor none
Float64 = npt.NDArray[np.float64]

VOICES = ("en-gb", "en-us", "de", "fr-fr", "es", "it", "pl", "cs", "sv", "ru")
MANNERS = ("", "+m1", "+m3", "+m7", "+f1", "+f2", "+f4", "+f5", "+croak", "+whisper")
WORDS = re.findall(
    r"\w+",
    "hello my name is Anna and this is a recording of the second movement please begin again from bar twelve the "
    "weather tomorrow will be cold with rain near the coast one two three four five six seven eight nine ten our "
    "teacher said that seven children sing about rivers and mountains in winter can you hear me thank you very much",
)


# --- sounds ----------------------------------------------------------------------------------------------------------


def speech(number: int, rng: np.random.Generator) -> Float64:
    """eSpeak NG reading a few sentences of random words, in ten languages and ten voices."""
    sentences = [" ".join(rng.choice(WORDS, rng.integers(3, 14))) + "." for _ in range(rng.integers(5, 14))]
    voice = VOICES[number % 10] + MANNERS[(number + number // 10) % 10]
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        path = f"{folder}/spoken.wav"
        flags = ["-s", str(rng.integers(110, 220)), "-p", str(rng.integers(20, 80)), "-w", path]
        subprocess.run(["espeak-ng", "-v", voice, *flags, " ".join(sentences)], check=True, capture_output=True)
        with wave.open(path) as file:
            samples_T = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
            rate = file.getframerate()
    time_T = np.arange(int(len(samples_T) * RATE / rate)) * rate / RATE
    return _at(np.interp(time_T, np.arange(len(samples_T)), samples_T), rng, -40, -15)


def white_noise(_: int, rng: np.random.Generator) -> Float64:
    """Flat."""
    return _at(rng.normal(size=_samples(rng)), rng, -45, -20)


def pink_noise(_: int, rng: np.random.Generator) -> Float64:
    """Power falls as 1 / f or, one time in three, as 1 / f squared."""
    return _at(_coloured(rng.normal(size=_samples(rng)), float(rng.choice([1, 1, 2]))), rng, -45, -20)


def steady_tone(number: int, rng: np.random.Generator) -> Float64:
    """Sine, square or eight partials, 40 to 1500 Hz."""
    phase_T = 2 * np.pi * 2 ** rng.uniform(np.log2(40), np.log2(1500)) * np.arange(_samples(rng)) / RATE
    kinds = (np.sin(phase_T), np.sign(np.sin(phase_T)), sum(np.sin(k * phase_T) / k for k in range(1, 9)))
    return _at(np.asarray(kinds[number % 3]), rng, -40, -12)


def beeps(_: int, rng: np.random.Generator) -> Float64:
    """A sine that is switched on and off."""
    time_T, period = np.arange(_samples(rng)) / RATE, rng.uniform(0.3, 2)
    tone_T = np.sin(2 * np.pi * 2 ** rng.uniform(np.log2(60), np.log2(1000)) * time_T)
    return _at(tone_T * (time_T % period < period * rng.uniform(0.2, 0.7)), rng, -40, -12)


def sweep(number: int, rng: np.random.Generator) -> Float64:
    """A sine that rises again and again, by octaves or by hertz."""
    period = rng.uniform(2, 30)
    place_T = (np.arange(_samples(rng)) / RATE % period) / period
    low, high = rng.uniform(20, 60), rng.uniform(150, 4000)
    hertz_T = low * (high / low) ** place_T if number % 2 else low + (high - low) * place_T
    return _at(np.sin(2 * np.pi * np.cumsum(hertz_T) / RATE), rng, -40, -12)


def clicks(number: int, rng: np.random.Generator) -> Float64:
    """A metronome, or keys on a keyboard."""
    total = _samples(rng)
    hit_T = np.zeros(total)
    hits = int(total / RATE * rng.uniform(1, 6))
    hit_T[np.arange(0, total, int(RATE * rng.uniform(0.3, 1.2))) if number % 2 else rng.integers(0, total, hits)] = 1
    size = int(RATE * rng.uniform(0.001, 0.03))
    one_T = rng.normal(size=size) * np.exp(-4 * np.arange(size) / size)
    return _at(fftconvolve(hit_T, one_T)[:total], rng, -45, -25)


def hum(number: int, rng: np.random.Generator) -> Float64:
    """50 or 60 Hz and six more partials."""
    time_T, hertz = np.arange(_samples(rng)) / RATE, (50, 60)[number % 2]
    parts = [rng.uniform() / k * np.sin(2 * np.pi * hertz * k * time_T + rng.uniform(0, 6)) for k in range(1, 8)]
    return _at(np.sum(parts, axis=0), rng, -50, -25)


def cough(_: int, rng: np.random.Generator) -> Float64:
    """A silent room in which somebody coughs one to three times."""
    room_T = np.zeros(_samples(rng))
    for _ in range(rng.integers(1, 4)):
        size = int(RATE * rng.uniform(0.25, 0.5))
        start = rng.integers(0, len(room_T) - size)
        burst_T = _coloured(rng.normal(size=size), 1.0) * np.exp(-4 * np.arange(size) / size)
        room_T[start : start + size] += burst_T * 10 ** (rng.uniform(-30, -12) / 20)
    return room_T


SOUNDS: dict[str, Callable[[int, np.random.Generator], Float64]] = {
    SPEECH: speech,
    "white noise": white_noise,
    "pink and brown noise": pink_noise,
    "steady tones": steady_tone,
    "beeps": beeps,
    "sweeps": sweep,
    "clicks": clicks,
    "hum": hum,
    "silence with a cough": cough,
}


def _samples(rng: np.random.Generator) -> int:
    return int(RATE * rng.uniform(15, 90))


def _at(samples_T: Float64, rng: np.random.Generator, low: float, high: float) -> Float64:
    """At a level between these, dBFS."""
    return samples_T / np.sqrt(np.mean(samples_T**2)) * 10 ** (rng.uniform(low, high) / 20)


def _coloured(noise_T: Float64, slope: float) -> Float64:
    spectrum_K = np.fft.rfft(noise_T)
    coloured_T = np.fft.irfft(spectrum_K * np.maximum(np.arange(len(spectrum_K)), 1) ** (-slope / 2), len(noise_T))
    return np.asarray(coloured_T / coloured_T.std())


# --- what grading hears of them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What is known of a sound. group: performer, or a name of its own; measures_by_rate: None where it is not graded
    anyway, silent or with too little playing; embedding_E: likewise at 500 Hz."""

    kind: str
    group: str
    measures_by_rate: dict[int, Float64 | None]
    embedding_E: Float64 | None


def sound_file(kind: str, number: int) -> bytes:
    """A wav file of one of SOUNDS, with a little noise."""
    rng = np.random.default_rng([number, *kind.encode()])
    samples_T = SOUNDS[kind](number, rng)
    return wav_file(samples_T + _hiss(samples_T, rng))


def _sound(task: tuple[str, int]) -> list[Told]:
    kind, number = task
    return [_told(kind, f"{kind} {number}", sound_file(kind, number))]


def _hiss(samples_T: Float64, rng: np.random.Generator) -> Float64:
    return rng.normal(size=len(samples_T)) * 10 ** (rng.uniform(-85, -55) / 20)


def _played(task: tuple[str, PlannedRecording, bool]) -> list[Told]:
    kind, planned, turned = task
    samples_T = render_recording(planned, RATE, channels=1)[0].astype(np.float64)
    told = [_told(kind, planned.performer, wav_file(samples_T))]
    if turned:
        half_T = np.interp(np.arange(2 * len(samples_T)) / 2, np.arange(len(samples_T)), samples_T)
        told += [
            _told(name, planned.name, wav_file(other_T))
            for name, other_T in zip(TURNED, (samples_T[::-1], half_T), strict=True)
        ]
    return told


def _recorded(path: str) -> list[Told]:
    return [_told(PIANISTS, path, Path(path).read_bytes(), Path(path).suffix)]


def wav_file(samples_T: Float64) -> bytes:
    """These samples in 16 bits."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as named:
        with wave.open(named.name, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", "NONE"))
            file.writeframes((np.clip(samples_T, -1, 1) * 32767).astype("<i2").tobytes())
        return Path(named.name).read_bytes()


def _told(kind: str, group: str, data: bytes, suffix: str = ".wav") -> Told:
    torch.set_num_threads(1)
    measures: dict[int, Float64 | None] = {}
    embedding_E = None
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        for rate in RATES:
            settings = SegmentSettings(sample_rate=rate)
            with Decoder(rate) as decoder:
                decoded = decoder.decode(file.name)
            active_F = activity(decoded.frame_power_F)
            windows, gain = audible_windows(decoded.samples_T, active_F, settings)
            says_S = windows.activity_S >= SILENT_SEGMENT_ACTIVITY
            measures[rate] = None
            if not says_S.any() or seconds_of_playing(active_F) < settings.least_playing_s:
                continue
            measures[rate] = measures_of(decoded.samples_T, active_F, rate)
            if rate == RATES[0]:
                plan = plan_for(settings.segment_samples)
                starter = starter_for(FitSettings().init, rate, plan)
                network, _ = new_network(NETWORKS[JOINED], plan, rate, len(GRADES), DEFAULT_HEAD, starter, 0)
                said = hear(network.eval(), decoded.samples_T, gain, windows, torch.device("cpu"))
                embedding_E = said.embedding_SE.numpy()[says_S].mean(axis=0).astype(np.float64)
    return Told(kind, group, measures, embedding_E)


# --- the table -------------------------------------------------------------------------------------------------------


def run(quick: bool, pianists: str = "") -> list[Table]:
    """One row a kind of sound: the share that gets no grade, by what was learnt from and at which rate."""
    count = 2 if quick else COUNT
    kinds = [kind for kind in SOUNDS if kind != SPEECH or shutil.which("espeak-ng")]
    corpora = {**{f"learnt {name}": settings for name, settings in LEARNT.items()}, **UNHEARD}
    plans = {name: plan_corpus(settings)[: 6 if quick else None] for name, settings in corpora.items()}
    played = [(name, one, name in UNHEARD and i < count) for name, plan in plans.items() for i, one in enumerate(plan)]
    files = [str(path) for path in sorted(Path(pianists).rglob("*"))] if pianists else []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(_sound, (kind, number)) for kind in kinds for number in range(count)]
        pending += [pool.submit(_played, task) for task in played]
        pending += [pool.submit(_recorded, path) for path in files if is_recording_name(path)]
        told = [one for done in pending for one in done.result()]
    found = {(name, rate): _refused(told, f"learnt {name}", rate) for name in LEARNT for rate in RATES}
    by_embedding = _by_embedding(told)
    rows: list[tuple[str | float, ...]] = []
    for kind in [*kinds, GOAL, *UNHEARD, *([PIANISTS] if files else []), *TURNED]:
        some = [i for i, one in enumerate(told) if one.kind == kind or (kind == GOAL and one.kind in kinds)]
        silent = sum(told[i].measures_by_rate[RATES[0]] is None for i in some)
        shares = [f"{100 * refused_R[some].mean():.0f} %" for refused_R in (*found.values(), by_embedding)]
        rows.append((kind, len(some), silent, *shares))
    columns = ("sound", "files", "silent or too short", *(f"{name} learnt, {rate} Hz" for name, rate in found))
    return [Table("Not graded", (*columns, "by the embedding alone, 60, 500 Hz"), rows)]


def _refused(told: Sequence[Told], learnt: str, rate: int) -> npt.NDArray[np.bool_]:
    """Which ones get no grade."""
    from_R = [(one.measures_by_rate[rate], one.group) for one in told if one.kind == learnt]
    known = [(measures_M, group) for measures_M, group in from_R if measures_M is not None]
    likeness = fit_likeness(np.array([measures_M for measures_M, _ in known]), [group for _, group in known])
    assert likeness is not None
    heard = [one.measures_by_rate[rate] for one in told]
    return np.array([sound_M is None or likeness.distance(sound_M) > likeness.limit for sound_M in heard])


def _by_embedding(told: Sequence[Told]) -> npt.NDArray[np.bool_]:
    learnt_RE = np.array([one.embedding_E for one in told if one.kind == "learnt 60" and one.embedding_E is not None])
    fitted = LedoitWolf().fit(learnt_RE)
    distance_R = np.array(
        [np.inf if x.embedding_E is None else fitted.mahalanobis(x.embedding_E[None])[0] for x in told]
    )
    playing_R = np.array([one.kind in (*UNHEARD, PIANISTS) for one in told])
    return np.asarray(distance_R > np.quantile(distance_R[playing_R], 0.98))


def main() -> None:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.not_playing", description=summary)
    parser.add_argument("--pianists", default="", help="folder of recordings by people")
    parser.add_argument("--quick", action="store_true", help="two sounds of a kind: the figures mean nothing")
    args = parser.parse_args()
    for table in run(args.quick, args.pianists):
        print(table.markdown())


if __name__ == "__main__":
    main()
