"""Why is some playing of 10 to 30 s refused at 500 Hz, and would another distance do better? (By hand.)

Question: which recordings are they, is it their length, and is there a limit or a distance that lets 98 % of excerpts
of 10 s through and still refuses 95 % of speech, noise and tones? Each way is given the limit that lets 98 % of the
excerpts through, and is judged by what else passes. Baseline: the distance and the limit that models have
(likeness.py). Noise guard: the sounds and performers of benchmarks/not_playing.py, three excerpts of each of 150.

    python -m benchmarks.short_playing

Without eSpeak NG (scripts/install_speech.sh) there is no speech among the sounds.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from benchmarks.measure import Table
from benchmarks.not_playing import COUNT, LEARNT, LONG, RATE, SHORT, SOUNDS, SPEECH, UNHEARD, sound_file, wav_file
from samplecnn.audio import Decoded, Decoder
from samplecnn.contract import FRAMES_PER_S, SILENT_SEGMENT_ACTIVITY
from samplecnn.likeness import fit_likeness
from samplecnn.performances.corpus import PlannedRecording, plan_corpus, render_recording
from samplecnn.segments import SegmentSettings, activity, audible_windows, playing, seconds_of_playing
from samplecnn.sound import MEASURES, measures_of

SETTINGS = SegmentSettings()
CUTS_S = (10, 20, 30)
CUTS = 3  # of each length, one after another, from each recording
PASS = 0.98
NEIGHBOURS = 5
Float64 = npt.NDArray[np.float64]
Distance = Callable[[Float64], float]


@dataclass(frozen=True)
class Heard:
    """A recording at 500 Hz. piece: of what is performed; playing_s: how long; left_db: how much of its power while
    somebody plays there is at this rate; measures_M: None where it is not graded anyway; cuts: measures by length."""

    kind: str
    group: str
    piece: str = ""
    playing_s: float = 0.0
    left_db: float = 0.0
    measures_M: Float64 | None = None
    cuts: tuple[tuple[int, Float64], ...] = ()


def _sound(task: tuple[str, int]) -> Heard:
    kind, number = task
    return _heard(Heard(kind, f"{kind} {number}"), sound_file(kind, number))


def _performed(task: tuple[str, PlannedRecording]) -> Heard:
    kind, planned = task
    samples_T = render_recording(planned, RATE, channels=1)[0].astype(np.float64)
    return _heard(Heard(kind, planned.performer, planned.piece), wav_file(samples_T))


def _heard(told: Heard, data: bytes) -> Heard:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file, Decoder(SETTINGS.sample_rate) as decoder:
        file.write(data)
        file.flush()
        decoded = decoder.decode(file.name)
    active_F = activity(decoded.frame_power_F)
    windows, _ = audible_windows(decoded.samples_T, active_F, SETTINGS)
    playing_s = seconds_of_playing(active_F)
    if not (windows.activity_S >= SILENT_SEGMENT_ACTIVITY).any() or playing_s < SETTINGS.least_playing_s:
        return told
    return Heard(
        told.kind,
        told.group,
        told.piece,
        playing_s,
        _left_db(decoded, active_F),
        measures_of(decoded.samples_T, active_F, SETTINGS.sample_rate),
        tuple((seconds, cut_M) for seconds in CUTS_S for cut_M in _cuts(decoded, active_F, seconds)),
    )


def _cuts(decoded: Decoded, active_F: npt.NDArray[np.bool_], seconds: int) -> list[Float64]:
    """Measures of the first excerpts of this length, as far as they are long enough to be graded."""
    rate = SETTINGS.sample_rate
    first, end = playing(active_F, len(decoded.samples_T), rate)
    found = []
    for start in range(first, end - seconds * rate + 1, seconds * rate)[:CUTS]:
        cut_F = active_F[start * FRAMES_PER_S // rate :][: seconds * FRAMES_PER_S]
        if seconds_of_playing(cut_F) >= SETTINGS.least_playing_s:
            found.append(measures_of(decoded.samples_T[start : start + seconds * rate], cut_F, rate))
    return [cut_M for cut_M in found if cut_M is not None]


def _left_db(decoded: Decoded, active_F: npt.NDArray[np.bool_]) -> float:
    frame = SETTINGS.sample_rate // FRAMES_PER_S
    frames = len(decoded.samples_T) // frame
    power_F = np.square(decoded.samples_T[: frames * frame].reshape(frames, frame)).mean(axis=1)
    left, whole = (x_F[:frames][active_F[:frames]].mean() for x_F in (power_F, decoded.frame_power_F))
    return float(10 * np.log10(left / whole))


# --- distances -------------------------------------------------------------------------------------------------------


def as_it_is(learnt: Sequence[Heard]) -> Distance:
    """Of the recording's measures from the mean of whole training recordings (likeness.py)."""
    likeness = fit_likeness(np.array([one.measures_M for one in learnt]), [one.group for one in learnt])
    assert likeness is not None
    return likeness.distance


def of_excerpts(learnt: Sequence[Heard]) -> Distance:
    """Likewise, but mean and covariance are those of excerpts and wholes together: how the measures of a few notes
    scatter counts too."""
    excerpts_NM, precision_MM = _excerpts(learnt)
    mean_M = excerpts_NM.mean(axis=0)
    return lambda measures_M: float(_lengths((measures_M / _spreads() - mean_M)[None], precision_MM)[0])


def nearest_excerpts(learnt: Sequence[Heard]) -> Distance:
    """The mean distance from the five excerpts that are nearest."""
    excerpts_NM, precision_MM = _excerpts(learnt)

    def distance(measures_M: Float64) -> float:
        apart_N = _lengths(measures_M / _spreads() - excerpts_NM, precision_MM)
        return float(np.sort(apart_N)[:NEIGHBOURS].mean())

    return distance


WAYS = {
    "from whole recordings (as it is)": as_it_is,
    "from excerpts and wholes": of_excerpts,
    f"from the {NEIGHBOURS} nearest excerpts": nearest_excerpts,
}


def _excerpts(learnt: Sequence[Heard]) -> tuple[Float64, Float64]:
    """(measures of excerpts and wholes, in spreads, precision)."""
    found = [cut_M for one in learnt for _, cut_M in one.cuts] + [one.measures_M for one in learnt]
    excerpts_NM = np.array(found) / _spreads()
    covariance_MM = LedoitWolf().fit(excerpts_NM).covariance_
    return excerpts_NM, np.linalg.inv(covariance_MM + np.eye(len(covariance_MM)))


def _lengths(off_NM: Float64, precision_MM: Float64) -> Float64:
    length_N: Float64 = np.sqrt(np.einsum("nm,mk,nk->n", off_NM, precision_MM, off_NM))
    return length_N


def _spreads() -> Float64:
    return np.array(list(MEASURES.values()))


# --- the tables ------------------------------------------------------------------------------------------------------


def run(quick: bool) -> list[Table]:
    """Refused by length; which of the short ones; other distances."""
    count = 2 if quick else COUNT
    kinds = [kind for kind in SOUNDS if kind != SPEECH or shutil.which("espeak-ng")]
    corpora = {**{f"learnt {name}": settings for name, settings in LEARNT.items()}, **UNHEARD}
    plans = {name: plan_corpus(settings)[: 6 if quick else None] for name, settings in corpora.items()}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(_performed, (name, one)) for name, plan in plans.items() for one in plan]
        pending += [pool.submit(_sound, (kind, number)) for kind in kinds for number in range(count)]
        heard = [done.result() for done in pending]
    learnt = {
        name: [one for one in heard if one.kind == f"learnt {name}" and one.measures_M is not None] for name in LEARNT
    }
    return [_by_length(heard, learnt), _which(heard, learnt), _ways(heard, learnt, kinds)]


def _by_length(heard: Sequence[Heard], learnt: dict[str, list[Heard]]) -> Table:
    found: dict[str, list[Float64]] = {SHORT: _measures(heard, SHORT)}
    found |= {f"excerpts of {seconds} s of those of {LONG}": _cut(heard, seconds) for seconds in CUTS_S}
    found[LONG] = _measures(heard, LONG)
    rows: list[tuple[str | float, ...]] = []
    for name, some in found.items():
        shares = []
        for from_R in learnt.values():
            likeness = fit_likeness(np.array([one.measures_M for one in from_R]), [one.group for one in from_R])
            assert likeness is not None
            shares.append(_share([likeness.distance(one_M) > likeness.limit for one_M in some]))
        rows.append((name, len(some), *shares))
    return Table("Refused at 500 Hz", ("playing", "number", *(f"{name} learnt" for name in learnt)), rows)


def _which(heard: Sequence[Heard], learnt: dict[str, list[Heard]]) -> Table:
    from_R = learnt[max(learnt, key=int)]
    likeness = fit_likeness(np.array([one.measures_M for one in from_R]), [one.group for one in from_R])
    assert likeness is not None
    short = [
        (one, likeness.distance(one.measures_M)) for one in heard if one.kind == SHORT and one.measures_M is not None
    ]
    rows: list[tuple[str | float, ...]] = [
        (one.piece, round(one.playing_s), round(distance, 1), round(one.left_db, 1))
        for one, distance in sorted(short, key=lambda pair: -pair[1])
        if distance > likeness.limit
    ]
    middle = [np.median(values) for values in zip(*((o.playing_s, d, o.left_db) for o, d in short), strict=True)]
    rows.append(("median of all", *(round(float(value), 1) for value in middle)))
    columns = ("piece", "seconds of playing", "distance", "power left at 500 Hz (dB)")
    return Table(f"{SHORT}: those refused, {max(learnt, key=int)} learnt", columns, rows)


def _ways(heard: Sequence[Heard], learnt: dict[str, list[Heard]], kinds: Sequence[str]) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for name, from_R in learnt.items():
        for way, made in WAYS.items():
            distance = made(from_R)
            limit = float(np.quantile([distance(cut_M) for cut_M in _cut(heard, CUTS_S[0])], PASS))
            beyond = {
                kind: [one.measures_M is None or distance(one.measures_M) > limit for one in heard if one.kind == kind]
                for kind in (SHORT, *kinds)
            }
            together = [refused for kind in kinds for refused in beyond[kind]]
            shares = (_share(beyond[SHORT]), _share(beyond.get(SPEECH, [])), _share(together))
            rows.append((way, name, round(limit, 2), *shares))
    columns = ("distance", "learnt", "limit that 98 % of excerpts of 10 s keep", f"refused: {SHORT}", SPEECH)
    return Table("Other distances at 500 Hz", (*columns, "speech, noise and tones together"), rows)


def _measures(heard: Sequence[Heard], kind: str) -> list[Float64]:
    return [one.measures_M for one in heard if one.kind == kind and one.measures_M is not None]


def _cut(heard: Sequence[Heard], seconds: int) -> list[Float64]:
    """Excerpts of the recordings of usual length by performers that were never heard."""
    return [cut_M for one in heard if one.kind == LONG for length_s, cut_M in one.cuts if length_s == seconds]


def _share(refused: Sequence[bool]) -> str:
    return f"{100 * np.mean(refused):.1f} %" if refused else "-"


def main() -> None:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.short_playing", description=summary)
    parser.add_argument("--quick", action="store_true", help="two sounds of a kind: the figures mean nothing")
    for table in run(parser.parse_args().quick):
        print(table.markdown(), "\n")


if __name__ == "__main__":
    main()
