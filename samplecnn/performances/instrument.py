"""A piano, a room and a microphone: played notes -> samples.

Notable: a tone is a sum of decaying sinusoids, and exp((-d + iw)t) over a grid of blocks and samples is an outer
product, so a tone of seconds is one small matrix product (about 1 ms); a performance uses a few hundred different
tones, each made once. Two minutes in stereo at 44.1 kHz take about two CPU-seconds. Everything scales with the
sample rate: rendering at 2 kHz leaves out the partials above 1 kHz and costs a twentieth.

The sound follows what is common knowledge on pianos (Fletcher & Rossing, The Physics of Musical Instruments): stiff
strings with stretched partials, f_k = k f sqrt(1 + B k^2); a fast and a slow decay; brighter when struck harder; a
knock of hammer and key bed, much of it low; dampers. It is made to vary widely rather than to please: what is heard
must be the playing, whatever the instrument.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from samplecnn.performances.player import Performance

# C channels, T samples, K partials (each twice: fast and slow decay).
Samples = npt.NDArray[np.float32]

_BLOCK = 512  # samples; a block's decay and rotation is one column of the outer product
_LONGEST_S = 9.0  # no note is followed further
_VELOCITY_STEP = 6.0  # velocities this near share one tone (its loudness is still their own)
_QUIETEST = 1e-4  # partials below this share of the strongest are left out: -80 dB
_DAMPED = 6.9  # time constants after which a damped string is cut off: -60 dB
_PEAK = 0.98


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """The character of a piano. Each number is its own and may be varied (`vary`)."""

    stiffness: float = 4e-4  # B at middle C
    decay_s: float = 7.0  # -60 dB of the fundamental at middle C
    damping: float = 0.25  # how much faster each further partial decays
    darkness: float = 1.3  # partial k has amplitude k ** -darkness at a middling touch
    touch: float = 0.9  # how much darkness changes over the range of velocities
    dynamics: float = 1.8  # amplitude ~ velocity ** dynamics
    strike: float = 0.12  # where the hammer strikes: partials with a node there are weak
    beating_hz: float = 0.4  # mistuning between the strings of a note
    knock: float = 0.10  # hammer and key bed against the string
    attack_s: float = 0.002
    release_s: float = 0.08  # time constant of the damper
    spread: float = 0.5  # stereo width: 0 mono .. 1


INSTRUMENTS: dict[str, Instrument] = {
    "grand": Instrument(),
    "concert": Instrument(stiffness=2.5e-4, decay_s=10.0, darkness=1.1, touch=1.1, knock=0.07, spread=0.7),
    "upright": Instrument(stiffness=8e-4, decay_s=4.5, darkness=1.5, beating_hz=0.8, knock=0.16, spread=0.35),
    "felt": Instrument(stiffness=6e-4, decay_s=4.0, darkness=2.1, touch=0.6, knock=0.22, attack_s=0.006, spread=0.4),
    "bright": Instrument(stiffness=3e-4, decay_s=6.0, darkness=0.8, touch=0.7, strike=0.09, knock=0.05, spread=0.8),
    "honky": Instrument(stiffness=9e-4, decay_s=3.5, darkness=1.0, beating_hz=2.2, knock=0.14, spread=0.3),
    "digital": Instrument(stiffness=1e-4, decay_s=6.0, darkness=1.6, beating_hz=0.05, knock=0.03, spread=0.9),
    "spinet": Instrument(stiffness=1.2e-3, decay_s=3.0, damping=0.4, darkness=1.3, knock=0.18, release_s=0.14),
}


@dataclass(frozen=True, kw_only=True)
class Room:
    """Reverberation and the microphone in it. low_cut_hz and high_cut_hz bound what the microphone takes up."""

    reverberation_s: float = 0.5  # -60 dB
    wet: float = 0.25  # energy of the reverberation against the direct sound
    first_echo_s: float = 0.008
    dullness_hz: float = 4000.0  # the room swallows what is above
    low_cut_hz: float = 35.0
    high_cut_hz: float = 14000.0
    tilt_db: float = 0.0  # treble above 1 kHz against bass


ROOMS: dict[str, Room] = {
    "studio": Room(reverberation_s=0.25, wet=0.08, low_cut_hz=25.0, high_cut_hz=18000.0),
    "living": Room(reverberation_s=0.45, wet=0.3, first_echo_s=0.005, dullness_hz=3000.0),
    "classroom": Room(reverberation_s=0.75, wet=0.5, first_echo_s=0.009, dullness_hz=5000.0, low_cut_hz=50.0),
    "practice": Room(reverberation_s=0.3, wet=0.6, first_echo_s=0.003, dullness_hz=2500.0, high_cut_hz=10000.0),
    "hall": Room(reverberation_s=1.5, wet=0.45, first_echo_s=0.02, dullness_hz=4500.0),
    "phone": Room(reverberation_s=0.5, wet=0.4, low_cut_hz=90.0, high_cut_hz=9000.0, tilt_db=3.0),
}


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is there when nobody plays: levels in dBFS of white hiss (to 22 kHz), mains hum, and rumble under 100 Hz."""

    hiss_dbfs: float = -70.0
    hum_dbfs: float = -80.0
    hum_hz: float = 50.0
    rumble_dbfs: float = -75.0


@dataclass(frozen=True, kw_only=True)
class Sound:
    """All that is heard besides the playing.

    level_dbfs: rms of the music over the whole recording, at the sample rate it is rendered at; lead_s, tail_s: the
    time before and after the take.
    """

    instrument: Instrument = INSTRUMENTS["grand"]
    room: Room = ROOMS["living"]
    noise: Noise = Noise()
    level_dbfs: float = -24.0
    tuning_cents: float = 0.0
    lead_s: float = 0.5
    tail_s: float = 2.0


def vary(instrument: Instrument, rng: np.random.Generator, amount: float = 0.12) -> Instrument:
    """Another instrument of the same kind: every number multiplied by exp(normal(0, amount))."""
    factors = np.exp(rng.normal(0.0, amount, len(fields(instrument))))
    return replace(
        instrument,
        **{
            field.name: getattr(instrument, field.name) * f
            for field, f in zip(fields(instrument), factors, strict=True)
        },
    )


def render(performance: Performance, sound: Sound, *, sample_rate: int, channels: int, seed: int) -> Samples:
    """The recording: float32 [channels, samples], lead_s + the take + tail_s long, within full scale.

    channels: 1 or 2. seed: of the room's tail, the knocks and the noise. Should a peak pass full scale, all is made
    softer by as much: a level of -22 dBFS or less leaves room for it.
    """
    if channels not in (1, 2):
        raise ValueError(f"{channels} channels: 1 or 2")
    total = round((sound.lead_s + performance.duration_s + sound.tail_s) * sample_rate)
    rng = np.random.default_rng(seed)
    music = _strings(performance, sound, sample_rate, channels, total, rng)
    response_CT = room_response(sound.room, sample_rate, channels, rng)
    for channel in range(channels):
        music[channel] = oaconvolve(music[channel], response_CT[channel])[:total]
    rms = float(np.sqrt(np.mean([np.dot(row, row) / total for row in music])))
    music *= np.float32(10.0 ** (sound.level_dbfs / 20.0) / max(rms, 1e-12))
    _add_noise(music, sound.noise, sample_rate, rng)
    peak = max(float(music.max()), -float(music.min()))
    if peak > _PEAK:
        music *= np.float32(_PEAK / peak)
    return music


# --- strings ---------------------------------------------------------------------------------------------------------


def _strings(
    performance: Performance, sound: Sound, sample_rate: int, channels: int, total: int, rng: np.random.Generator
) -> Samples:
    """The dry instrument, float32 [channels, total]."""
    instrument = sound.instrument
    start_N = np.round((sound.lead_s + performance.onset_s_N) * sample_rate).astype(np.int64)
    held_N = np.minimum(_held_s(performance), _LONGEST_S)
    class_N = np.round(performance.velocity_N / _VELOCITY_STEP).astype(np.int64)
    tail = round(_DAMPED * instrument.release_s * sample_rate)
    damper = np.exp(-np.arange(tail) / (instrument.release_s * sample_rate)).astype(np.float32)
    knock = _knock(sample_rate, rng)
    needed_N = np.round(held_N * sample_rate).astype(np.int64) + tail
    out = np.zeros((channels, total), np.float32)
    # By key and velocity, so that one tone is in memory at a time.
    for pitch, velocity_class in sorted(set(zip(performance.pitch_N.tolist(), class_N.tolist(), strict=True))):
        notes = np.flatnonzero((performance.pitch_N == pitch) & (class_N == velocity_class))
        tone = _tone(
            pitch, velocity_class * _VELOCITY_STEP, instrument, sound.tuning_cents, sample_rate, needed_N[notes].max()
        )
        length = min(len(knock), len(tone))
        tone[:length] += np.float32(instrument.knock) * knock[:length]
        side = instrument.spread * np.clip((pitch - 62) / 30.0, -1.0, 1.0)
        pans = np.array([1.0] if channels == 1 else [np.sqrt(0.5 * (1 - side)), np.sqrt(0.5 * (1 + side))], np.float32)
        for note in notes:
            start = start_N[note]
            stop = min(start + min(needed_N[note], len(tone)), total)
            sounding = tone[: stop - start] * np.float32((performance.velocity_N[note] / 64.0) ** instrument.dynamics)
            release = needed_N[note] - tail
            if release < len(sounding):
                sounding[release:] *= damper[: len(sounding) - release]
            for channel in range(channels):
                out[channel, start:stop] += pans[channel] * sounding
    return out


def _held_s(performance: Performance) -> npt.NDArray[np.float64]:
    """How long each string is free: while the key is down, or the pedal that is down when the key comes up."""
    end_N = performance.onset_s_N + performance.duration_s_N
    if len(performance.pedal_P2):
        press = np.searchsorted(performance.pedal_P2[:, 0], end_N) - 1
        lift_N = np.where(press >= 0, performance.pedal_P2[press, 1], 0.0)
        end_N = np.maximum(end_N, lift_N)
    return np.asarray(end_N - performance.onset_s_N)


def _tone(
    pitch: int, velocity: float, instrument: Instrument, tuning_cents: float, sample_rate: int, samples: int
) -> Samples:
    """One struck string without damper, at a middling loudness: float32 [about samples], fewer if it dies first."""
    fundamental = 440.0 * 2.0 ** ((pitch - 69 + tuning_cents / 100.0) / 12.0)
    stiffness = instrument.stiffness * np.exp(0.07 * (pitch - 60))
    partial_K = np.arange(1, 33)
    frequency_K = partial_K * fundamental * np.sqrt(1.0 + stiffness * partial_K**2)
    darkness = instrument.darkness - instrument.touch * (velocity - 64.0) / 64.0
    amplitude_K = partial_K**-darkness * (0.15 + np.abs(np.sin(np.pi * partial_K * instrument.strike)))
    heard_K = (frequency_K < 0.47 * sample_rate) & (amplitude_K > _QUIETEST * amplitude_K.max())
    # The same loudness whatever the brightness and whatever the sample rate leaves of it.
    amplitude_K = amplitude_K / np.sqrt(np.sum(amplitude_K**2))
    partial_K, frequency_K, amplitude_K = partial_K[heard_K], frequency_K[heard_K], amplitude_K[heard_K]
    if not len(partial_K):
        return np.zeros(_BLOCK, np.float32)
    decay_K = 6.9 / instrument.decay_s * 2.0 ** ((pitch - 60) / 18.0) * (1.0 + instrument.damping * (partial_K - 1))

    beat = 2.0 * np.pi * instrument.beating_hz
    rate_K = np.concatenate(
        [-1.7 * decay_K + 2j * np.pi * frequency_K, -0.5 * decay_K + 1j * (2 * np.pi * frequency_K + beat)]
    )
    phase_K = np.random.default_rng(pitch).uniform(0.0, 2.0 * np.pi, len(partial_K))
    weight_K = np.concatenate([0.8 * amplitude_K, 0.2 * amplitude_K]) * np.exp(1j * np.tile(phase_K, 2))
    alive = int(_DAMPED / (0.5 * decay_K[0]) * sample_rate)
    blocks = -(-min(samples, alive) // _BLOCK)
    within = np.exp(np.outer(rate_K, np.arange(_BLOCK) / sample_rate))
    across = weight_K * np.exp(np.outer(np.arange(blocks) * _BLOCK / sample_rate, rate_K))
    # Real part of the product, as one real product of twice the width.
    tone = np.hstack([across.real, -across.imag]).astype(np.float32) @ np.vstack([within.real, within.imag]).astype(
        np.float32
    )
    tone = tone.reshape(-1)
    rise = min(max(round(instrument.attack_s * sample_rate), 1), len(tone))
    tone[:rise] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(rise) + 0.5) / rise)).astype(np.float32)
    return np.asarray(tone, np.float32)


def _knock(sample_rate: int, rng: np.random.Generator) -> Samples:
    """The knock of a key: noise of 60 ms, mostly between 60 and 400 Hz, the same for every key of an instrument."""
    noise = _noise(round(0.25 * 48000), rng)  # drawn at one rate, so that every sample rate has the same knock
    spectrum = np.fft.rfft(noise)
    hz = np.fft.rfftfreq(len(noise), 1 / 48000)
    spectrum *= (hz > 60.0) / (1.0 + (hz / 300.0) ** 2)
    shaped = np.fft.irfft(spectrum[hz <= sample_rate / 2], round(0.25 * sample_rate))
    seconds = np.arange(len(shaped)) / sample_rate
    shaped *= np.exp(-seconds / 0.02) * np.minimum(seconds / 0.001, 1.0)
    return np.asarray(shaped / 0.02 * sample_rate / 48000, np.float32)


# --- room and noise --------------------------------------------------------------------------------------------------


def room_response(room: Room, sample_rate: int, channels: int, rng: np.random.Generator) -> Samples:
    """Direct sound, some early echoes, a decaying tail, and the microphone's equaliser: float32 [channels, ...]."""
    length = round(1.1 * room.reverberation_s * sample_rate) + _BLOCK
    seconds = np.arange(length) / sample_rate
    hz = np.fft.rfftfreq(length, 1.0 / sample_rate)
    dull = 1.0 / (1.0 + 1j * hz / room.dullness_hz)
    tilt = 10.0 ** (room.tilt_db / 20.0)
    microphone = (1j * hz / (1j * hz + room.low_cut_hz)) / (1.0 + 1j * hz / room.high_cut_hz)
    microphone *= (1.0 + tilt * 1j * hz / 1000.0) / (1.0 + 1j * hz / 1000.0)
    response = np.zeros((channels, length), np.float32)
    for channel in range(channels):
        tail = rng.normal(0.0, 1.0, length) * np.exp(-6.9 * seconds / room.reverberation_s)
        tail[seconds < room.first_echo_s] = 0.0
        for echo in range(1, 6):
            at = round(room.first_echo_s * echo * rng.uniform(0.8, 1.6) * sample_rate)
            tail[min(at, length - 1)] += rng.choice([-1.0, 1.0]) * 12.0 / echo
        wet = np.fft.rfft(tail) * dull
        wet *= np.sqrt(room.wet / max(2.0 * np.sum(np.abs(wet) ** 2) / length, 1e-12))  # Parseval: energy room.wet
        response[channel] = np.fft.irfft((1.0 + wet) * microphone, length)
    return response


def _add_noise(music: Samples, noise: Noise, sample_rate: int, rng: np.random.Generator) -> None:
    channels, total = music.shape
    # Hiss has one density whatever the sample rate: a lower one has less of it.
    hiss = 10.0 ** (noise.hiss_dbfs / 20.0) * np.sqrt(min(sample_rate / 44100.0, 1.0))
    second = np.arange(sample_rate) / sample_rate
    harmonics = [k for k in (1, 2, 3, 5) if k * noise.hum_hz < 0.47 * sample_rate]
    # Mains hum repeats every second exactly, so one second is all of it.
    hum = sum(np.sin(2 * np.pi * k * noise.hum_hz * second + k) / k for k in harmonics) * np.sqrt(2.0)
    hum = (10.0 ** (noise.hum_dbfs / 20.0) * np.asarray(hum)).astype(np.float32)
    coarse_rate = 200
    coarse = _noise(round(total / sample_rate * coarse_rate) + 2, rng) * 10.0 ** (noise.rumble_dbfs / 20.0)
    rumble = np.interp(np.arange(total) / sample_rate, np.arange(len(coarse)) / coarse_rate, coarse).astype(np.float32)
    rumble += np.resize(hum, total)
    for channel in range(channels):
        music[channel] += np.float32(hiss) * _noise(total, rng) + rumble


def _noise(samples: int, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(samples, dtype=np.float32)
