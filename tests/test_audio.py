import os
import signal
import struct
import subprocess
import sys
import threading
import time
import wave
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soxr

from samplecnn.audio import DecodeLimits, Decoder
from samplecnn.contract import FRAME_S
from samplecnn.errors import JobError, RecordingError
from tests.fixtures import HANGS_S
from tests.fixtures.audio import ENCODERS, LEVEL, corrupt, noise, tone, truncate, write_audio, write_silent_film

NAMED = ["wav", "flac", "mp3", "ogg", "opus", "m4a", "mp4", "webm"]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(500) as decoder:
        yield decoder


def rate_of(suffix):
    return 48_000 if ENCODERS[suffix] == "libopus" else 44_100


def rms(wave_T):
    return float(np.sqrt(np.mean(np.square(wave_T, dtype=np.float64))))


def failure(decoder, path):
    with pytest.raises(RecordingError) as caught:
        decoder.decode(str(path))
    assert "\n" not in caught.value.message
    assert path.name not in caught.value.message
    return caught.value


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(ENCODERS))
def test_every_format_decodes_to_the_same_tone(decoder, tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", tone(110, 5, rate_of(suffix), 2), rate_of(suffix))

    decoded = decoder.decode(str(path))

    assert decoded.warnings == ()
    assert (decoded.source_rate, decoded.channels, decoded.sample_rate) == (rate_of(suffix), 2, 500)
    assert decoded.duration_s == pytest.approx(5, abs=0.06)  # codecs pad to whole frames
    assert len(decoded.samples_T) == pytest.approx(500 * decoded.duration_s, abs=1)
    assert decoded.samples_T.dtype == np.float32
    middle_T = decoded.samples_T[500:2000]
    assert rms(middle_T) == pytest.approx(LEVEL / np.sqrt(2), rel=0.06)  # LAME scales by 0.95
    spectrum = np.abs(np.fft.rfft(middle_T * np.hanning(len(middle_T))))
    assert np.argmax(spectrum) * 500 / len(middle_T) == pytest.approx(110, abs=0.4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a"])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_level_does_not_depend_on_the_number_of_channels(decoder, tmp_path, suffix, channels):
    path = write_audio(tmp_path / f"a.{suffix}", tone(110, 3, 48_000, channels), 48_000)
    decoded = decoder.decode(str(path))
    assert decoded.channels == channels
    assert rms(decoded.samples_T[500:1000]) == pytest.approx(LEVEL / np.sqrt(2), rel=0.01)
    assert decoded.frame_power_F[20:40].mean() == pytest.approx(LEVEL**2 / 2, rel=0.02)


@pytest.mark.parametrize("freq_hz", [260, 300, 400])
def test_tones_above_half_the_rate_do_not_alias(decoder, tmp_path, freq_hz):
    path = write_audio(tmp_path / "a.wav", tone(freq_hz, 10, 44_100), 44_100, encoder="pcm_f32le")
    middle_T = decoder.decode(str(path)).samples_T[1250:3750]
    assert 20 * np.log10(rms(middle_T) / (LEVEL / np.sqrt(2))) < -100


@pytest.mark.parametrize("source_rate", [8_000, 22_050, 44_100, 96_000])
def test_stream_of_blocks_equals_one_shot_resampling(tmp_path, source_rate):
    wave_CT = noise(7.3, source_rate)
    path = write_audio(tmp_path / "a.wav", wave_CT, source_rate, encoder="pcm_f32le")
    with Decoder(2000) as decoder:
        decoded = decoder.decode(str(path))
    np.testing.assert_array_equal(decoded.samples_T, soxr.resample(wave_CT[0], source_rate, 2000, "HQ"))


@pytest.mark.parametrize("suffix", NAMED)
def test_sound_stays_where_it_was_to_a_millisecond(tmp_path, suffix):
    rate = rate_of(suffix)
    wave_CT = np.tile(0.3 * np.cumsum(noise(4, rate), axis=1) / 20, (2, 1)).clip(-1, 1)
    path = write_audio(tmp_path / f"a.{suffix}", wave_CT, rate)
    with Decoder(8000) as decoder:
        heard_T = decoder.decode(str(path)).samples_T[4000:28_000]
    source_T = soxr.resample(wave_CT[0], rate, 8000, "HQ")
    match = [np.diff(heard_T) @ np.diff(source_T[4000 + lag : 28_000 + lag]) for lag in range(-40, 41)]
    assert abs(int(np.argmax(match)) - 40) < 8  # samples at 8 kHz


@pytest.mark.parametrize("source_rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_frame_powers_are_mean_squares_at_the_full_rate(decoder, tmp_path, source_rate):
    wave_CT = noise(4.13, source_rate, 2)
    path = write_audio(tmp_path / "a.wav", wave_CT, source_rate, encoder="pcm_f32le")

    power_F = decoder.decode(str(path)).frame_power_F

    mono_T = wave_CT.astype(np.float64).mean(axis=0)
    edges = [round(k * (FRAME_S * source_rate)) for k in range(83)] + [len(mono_T)]
    expected = [np.mean(mono_T[a:b] ** 2) for a, b in pairwise(edges)]
    np.testing.assert_allclose(power_F, expected, rtol=1e-5)


def test_decoding_leaves_no_open_file_behind(decoder, tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(110, 1, 44_100), 44_100)
    decoder.decode(str(path))

    def open_files() -> np.ndarray:
        return np.array([psutil.Process().num_fds(), psutil.Process(decoder._child.pid).num_fds()])

    before, decodings = open_files(), 40
    for _ in range(decodings):
        decoder.decode(str(path))
    deadline = time.monotonic() + 10
    # The child answers before it closes its files, and other tests' threads open some of their own in this process.
    while ((left := open_files() - before) >= decodings // 2).any() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (left < decodings // 2).all()


def test_same_file_decodes_to_the_same_bits(decoder, tmp_path):
    path = str(write_audio(tmp_path / "a.mp3", noise(3, 44_100, 2), 44_100))
    first, second = decoder.decode(path), decoder.decode(path)
    np.testing.assert_array_equal(first.samples_T, second.samples_T)  # and the first outlives the second's request
    np.testing.assert_array_equal(first.frame_power_F, second.frame_power_F)


def test_content_counts_and_not_the_name(decoder, tmp_path):
    flac = write_audio(tmp_path / "a.flac", tone(110, 2, 44_100), 44_100)
    assert decoder.decode(str(flac.rename(tmp_path / "a.mp3"))).codec == "flac"


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_film_with_sound_is_heard_and_its_pictures_are_not_opened(decoder, tmp_path, container):
    path = write_audio(tmp_path / "a.mp4", tone(110, 3, 44_100, 2), 44_100, container=container, video=True)
    decoded = decoder.decode(str(path))
    assert decoded.codec == "aac"
    assert decoded.duration_s == pytest.approx(3, abs=0.06)
    assert decoded.warnings == ()


def test_channels_without_a_named_layout_are_heard(decoder, tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(5)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((tone(110, 2, 44_100, 5).T * 32767).astype("<i2").tobytes())
    decoded = decoder.decode(str(path))
    assert decoded.channels == 5
    assert rms(decoded.samples_T[250:750]) == pytest.approx(LEVEL / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize(
    "name",
    ["two words.wav", "Für Élise – №1 月.wav", "x" * 240 + ".wav", "a:b.wav", "-i.wav", "%03d.wav", "line\nbreak.wav"],
)
def test_strange_names_are_read(decoder, tmp_path, name):
    path = write_audio(tmp_path / "a.wav", tone(110, 1, 44_100), 44_100).rename(tmp_path / name)
    assert decoder.decode(str(path)).duration_s == 1.0


def test_name_that_is_not_unicode_is_read(decoder, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    os.rename(write_audio(tmp_path / "a.wav", tone(110, 1, 44_100), 44_100), path)
    assert decoder.decode(os.fsdecode(path)).duration_s == 1.0


# --- damaged, but usable ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aiff", "caf", "w64", "au", "webm", "mka"])
def test_truncated_file_tells_how_much_was_recovered(decoder, tmp_path, suffix):
    path = truncate(write_audio(tmp_path / f"a.{suffix}", noise(8, rate_of(suffix), 2), rate_of(suffix)))
    decoded = decoder.decode(str(path))
    assert decoded.duration_s == pytest.approx(4, abs=0.3)
    assert f"decoded in part: {decoded.duration_s:.1f} of 8.0 s" in decoded.warnings


@pytest.mark.parametrize("name", [b"info", b"free"])
@pytest.mark.parametrize("size", [-1, -(2**63), 2**62, 2**63 - 1, 2**40])
def test_a_chunk_that_is_said_to_reach_beyond_any_file_is_the_files_own_fault(decoder, tmp_path, name, size):
    path = write_audio(tmp_path / "a.caf", noise(4, 44_100), 44_100)
    data = path.read_bytes()
    at = data.index(b"data")
    path.write_bytes(data[:at] + name + struct.pack(">q", size) + data[at:])
    fault = None
    try:
        decoder.decode(str(path))
    except RecordingError as error:
        fault = error
    assert fault is None or (fault.permanent and "Error" not in str(fault)), fault
    assert decoder.decode(str(write_audio(tmp_path / "b.wav", noise(1, 8000), 8000))).duration_s == 1


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
@pytest.mark.parametrize("damage", [truncate, corrupt])
def test_ogg_that_lost_its_end_tells_how_much_was_recovered(decoder, tmp_path, suffix, damage):
    path = damage(write_audio(tmp_path / f"a.{suffix}", noise(12, rate_of(suffix), 2), rate_of(suffix)))
    decoded = decoder.decode(str(path))
    assert 3 < decoded.duration_s < 9
    assert f"decoded in part: {decoded.duration_s:.1f} s, the end is lost" in decoded.warnings


def test_truncated_m4a_is_recovered_where_its_index_stands_in_front(decoder, tmp_path):
    path = write_audio(tmp_path / "a.m4a", noise(8, 44_100, 2), 44_100, movflags="faststart")
    decoded = decoder.decode(str(truncate(path)))
    assert f"decoded in part: {decoded.duration_s:.1f} of 8.0 s" in decoded.warnings


def test_corrupt_mp3_is_told_and_does_not_set_the_level(decoder, tmp_path):
    path = corrupt(write_audio(tmp_path / "a.mp3", tone(110, 20, 44_100, 2), 44_100))
    decoded = decoder.decode(str(path))
    assert any(warning.startswith("damaged: ") for warning in decoded.warnings)
    assert any(warning.startswith("far above full scale: peak ") for warning in decoded.warnings)
    assert rms(decoded.samples_T) == pytest.approx(0.95 * LEVEL / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_that_does_not_know_its_length_is_whole(decoder, tmp_path, length):
    path = write_audio(tmp_path / "a.wav", tone(110, 3, 44_100), 44_100)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = length.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    decoded = decoder.decode(str(path))
    assert decoded.duration_s == 3.0
    assert decoded.warnings == ()


def test_samples_that_are_not_numbers_are_counted_and_silent(decoder, tmp_path):
    wave_CT = tone(110, 3, 44_100, 2)
    wave_CT[0, 1000:1003] = np.nan, np.inf, -np.inf
    wave_CT[1, 1001] = 1e30
    decoded = decoder.decode(str(write_audio(tmp_path / "a.wav", wave_CT, 44_100, encoder="pcm_f32le")))
    assert decoded.warnings == ("3 samples are not numbers and count as silence",)
    assert np.isfinite(decoded.samples_T).all()
    assert np.isfinite(decoded.frame_power_F).all()


def test_channels_in_antiphase_are_not_lost(decoder, tmp_path):
    x_CT = tone(110, 3, 44_100)
    path = write_audio(tmp_path / "a.flac", np.concatenate([0.9 * x_CT, -x_CT]), 44_100)
    decoded = decoder.decode(str(path))
    assert decoded.warnings == ("channels cancel each other: channel 2 taken",)
    assert rms(decoded.samples_T[500:1000]) == pytest.approx(LEVEL / np.sqrt(2), rel=0.01)
    assert decoded.frame_power_F[20:40].mean() == pytest.approx(LEVEL**2 / 2, rel=0.02)


def test_one_sounding_channel_of_six_is_no_cancellation(decoder, tmp_path):
    wave_CT = np.zeros((6, 3 * 48_000), np.float32)
    wave_CT[2] = tone(110, 3, 48_000)
    decoded = decoder.decode(str(write_audio(tmp_path / "a.flac", wave_CT, 48_000)))
    assert decoded.warnings == ()
    assert rms(decoded.samples_T[500:1000]) == pytest.approx(LEVEL / np.sqrt(2) / 6, rel=0.01)


def test_rate_and_channels_that_change_midway_keep_their_time(decoder, tmp_path):
    first = write_audio(tmp_path / "a.mp3", tone(110, 3, 44_100, 2), 44_100, write_xing="0")
    second = write_audio(tmp_path / "b.mp3", tone(110, 3, 22_050), 22_050, write_xing="0")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    decoded = decoder.decode(str(first))
    assert "sample rate or channels change midway" in decoded.warnings
    assert decoded.duration_s == pytest.approx(6, abs=0.2)
    for part in (slice(500, 1000), slice(2000, 2500)):
        assert rms(decoded.samples_T[part]) == pytest.approx(0.95 * LEVEL / np.sqrt(2), rel=0.02)


def test_digital_silence_decodes_to_silence(decoder, tmp_path):
    decoded = decoder.decode(str(write_audio(tmp_path / "a.flac", np.zeros((2, 44_100), np.float32), 44_100)))
    assert decoded.warnings == ()
    assert not decoded.samples_T.any()
    assert not decoded.frame_power_F.any()


# --- not usable ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"Dear teacher, here is my recording.\n" * 100, "not audio, or broken"),
        (np.random.default_rng(0).bytes(50_000), "not audio, or broken"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "not audio, or broken"),
    ],
)
def test_file_that_is_not_audio_is_refused(decoder, tmp_path, content, message):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    error = failure(decoder, path)
    assert error.stage == "decode"
    assert error.permanent
    assert message in error.message


def test_truncated_m4a_without_its_index_is_refused(decoder, tmp_path):
    error = failure(decoder, truncate(write_audio(tmp_path / "a.m4a", tone(110, 3, 44_100), 44_100)))
    assert error.permanent


def test_wav_without_samples_is_refused(decoder, tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44_100)
    assert failure(decoder, path).message == "no sound in it: 0 samples decoded"


def test_wav_too_short_for_one_sample_is_refused(decoder, tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(110, 3 / 44_100, 44_100), 44_100)
    assert "too short" in failure(decoder, path).message


def test_film_without_sound_is_refused(decoder, tmp_path):
    assert failure(decoder, write_silent_film(tmp_path / "a.mp4")).message == "no audio in it"


def test_codec_that_nobody_knows_is_refused(decoder, tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(110, 1, 22_050), 22_050)
    data = bytearray(path.read_bytes())
    assert data[20:22] == b"\x01\x00"  # PCM, in the fmt chunk
    data[20:22] = b"\x37\x13"
    path.write_bytes(data)
    assert failure(decoder, path).message == "a codec that FFmpeg does not know"


def test_matroska_with_a_damaged_clock_is_heard(decoder, tmp_path):
    path = write_audio(tmp_path / "a.mka", tone(110, 3, 22_050), 22_050)
    data = path.read_bytes()
    assert data.count(b"00:00:03.") == 1
    path.write_bytes(data.replace(b"00:00:03.", b"00:00:0x."))
    assert decoder.decode(str(path)).duration_s == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("rate", [100, 1_000_000])
def test_rate_that_no_audio_has_is_refused(decoder, tmp_path, rate):
    path = write_audio(tmp_path / "a.wav", noise(1, 44_100), 44_100)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    assert failure(decoder, path).message == f"a sample rate of {rate} Hz is not audio"


def test_missing_file_may_be_tried_again(decoder, tmp_path):
    error = failure(decoder, tmp_path / "gone.wav")
    assert (error.stage, error.message, error.permanent) == ("read", "No such file or directory", False)


def test_folder_is_not_a_recording(decoder, tmp_path):
    assert failure(decoder, tmp_path).message == "not a regular file"


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=control:{}\n",
    "dash": '<?xml version="1.0"?>\n<MPD><Period><BaseURL>{}</BaseURL></Period></MPD>\n',
}


@pytest.mark.parametrize("kind", sorted(PLAYLISTS))
@pytest.mark.parametrize("suffix", ["mp3", "wav", "m4a"])
def test_playlist_opens_no_other_file(decoder, tmp_path, kind, suffix):
    other = write_audio(tmp_path / "other.wav", tone(110, 1, 44_100), 44_100)
    path = tmp_path / f"a.{suffix}"
    path.write_text(PLAYLISTS[kind].format(other.name))
    assert "not audio, or broken" in failure(decoder, path).message


def test_without_the_allow_list_a_concat_script_would_look_for_its_files(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_text(PLAYLISTS["concat"].format("other.wav"))
    with path.open("rb") as file, pytest.raises(av.FileNotFoundError):
        av.open(file)


# --- the child -------------------------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path):
    return str(write_audio(tmp_path / "good.wav", tone(110, 2, 44_100), 44_100))


def stopped_child(decoder, good):
    """The decoder's child, unable to answer."""
    decoder.decode(good)
    child = decoder._child.pid
    os.kill(child, signal.SIGSTOP)
    return child


def once_asked(decoder, act):
    """Do something while the decoder waits for its child."""
    child = decoder._child

    def wait():
        while child.is_idle:
            time.sleep(0.01)
        time.sleep(0.1)  # and the request is written
        act()

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize(("sign", "permanent"), [(signal.SIGKILL, False), (signal.SIGSEGV, True)])
def test_death_of_the_child_costs_one_recording(good, sign, permanent):
    with Decoder(500) as decoder:
        child = stopped_child(decoder, good)
        once_asked(decoder, lambda: (os.kill(child, sign), os.kill(child, signal.SIGCONT)))
        error = failure(decoder, Path(good))
        assert error.message == f"the decoder was stopped by {sign.name}"
        assert error.permanent is permanent
        assert decoder.decode(good).duration_s == 2.0


def test_death_between_two_recordings_costs_none(good):
    with Decoder(500) as decoder:
        decoder.decode(good)
        os.kill(decoder._child.pid, signal.SIGKILL)
        psutil.Process(decoder._child.pid).wait(5)
        assert decoder.decode(good).duration_s == 2.0


def test_child_that_does_not_answer_is_given_up_in_time(good):
    with Decoder(500) as decoder:
        child, patient = stopped_child(decoder, good), decoder._limits
        decoder._limits = DecodeLimits(base_s=0.3)
        decoder._child._limits = decoder._limits
        error = failure(decoder, Path(good))
        assert error.message == "not decoded within 1 s"
        assert not error.permanent
        assert not psutil.pid_exists(child)
        decoder._limits = patient
        assert decoder.decode(good).duration_s == 2.0


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a shell that starts pytest in the background has it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_leaves_a_decoder_that_works(good):
    with Decoder(500) as decoder:
        child = stopped_child(decoder, good)
        once_asked(decoder, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            decoder.decode(good)
        assert not psutil.pid_exists(child)
        assert decoder.decode(good).duration_s == 2.0


def test_failed_recording_does_not_cost_the_child(good, tmp_path):
    with Decoder(500) as decoder:
        decoder.decode(good)
        child = decoder._child.pid
        (tmp_path / "text.wav").write_text("no audio here" * 100)
        failure(decoder, tmp_path / "text.wav")
        decoder.decode(good)
        assert decoder._child.pid == child


def test_recording_beyond_the_cap_is_refused(good):
    with Decoder(500, DecodeLimits(max_hours=1 / 3600)) as decoder:
        assert failure(decoder, Path(good)).message == "longer than 0.000277778 hours"


def test_recording_that_needs_too_much_memory_costs_itself_alone(good, tmp_path):
    wide = write_audio(tmp_path / "wide.flac", noise(3, 192_000, 6), 192_000)  # 65,536 samples of 6 channels: 1.6 MB
    with Decoder(500, DecodeLimits(memory_mb=6)) as decoder:
        assert failure(decoder, wide).message == "decoding needs more than 6 MB of memory"
        assert decoder.decode(good).duration_s == 2.0


def test_cover_art_of_a_hundred_megabytes_costs_no_memory(good, tmp_path):
    path, size = tmp_path / "a.mp3", 100_000_000
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    picture = b"APIC" + (size - 10).to_bytes(4, "big") + b"\0\0" + b"\0image/png\0\x03\0" + b"\x89PNG"
    sound = write_audio(tmp_path / "b.mp3", tone(110, 1, 44_100), 44_100).read_bytes()
    with path.open("wb") as file:
        file.write(b"ID3\x03\0\0" + length + picture)
        file.seek(size + 10)  # the rest of it is a hole in the file
        file.write(sound)
    with Decoder(500, DecodeLimits(memory_mb=50)) as decoder:
        assert decoder.decode(str(path)).duration_s == pytest.approx(1, abs=0.06)


def test_decoder_that_cannot_start_is_no_fault_of_the_recording(good, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Decoder(500) as decoder, pytest.raises(JobError, match="the decoder does not start"):
        decoder.decode(good)


def memory_mb(pid, field):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) / 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_three_hours_cost_no_more_memory_than_three_minutes(tmp_path):
    minute = (noise(60, 8_000) * 32767 / 8).clip(-32768, 32767).astype("<i2").tobytes()
    paths = {}
    for minutes in (3, 180):
        paths[minutes] = str(tmp_path / f"{minutes}.wav")
        with wave.open(paths[minutes], "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8_000)
            for _ in range(minutes):
                file.writeframesraw(minute)
    with Decoder(2000) as decoder:
        decoder.decode(paths[3])
        child, here = memory_mb(decoder._child.pid, "VmHWM"), memory_mb("self", "RssAnon")
        decoded = decoder.decode(paths[180])
        assert decoded.duration_s == 10_800
        assert len(decoded.samples_T) == 10_800 * 2000
        assert memory_mb(decoder._child.pid, "VmHWM") - child < 30
        assert memory_mb("self", "RssAnon") - here < 30


def test_close_leaves_no_process(good):
    decoder = Decoder(500)
    decoder.decode(good)
    child = decoder._child.pid
    assert psutil.pid_exists(child)
    decoder.close()
    decoder.close()
    assert not psutil.pid_exists(child)


def test_killed_parent_leaves_no_process_and_no_file(good, tmp_path):
    script = (
        "import sys; from samplecnn.audio import Decoder; d = Decoder(500); d.decode(sys.argv[1]);"
        "print(d._child.pid, flush=True)\nwhile True: d.decode(sys.argv[1])"
    )
    place = tmp_path / "temporary"
    place.mkdir()
    env = {**os.environ, "TMPDIR": str(place)}
    parent = subprocess.Popen([sys.executable, "-c", script, good], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    child = parent.stdout.readline()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + HANGS_S
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(int(child)).status() != "zombie":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not list(place.iterdir())


def test_import_costs_neither_av_nor_soxr():
    script = "import sys, samplecnn.audio; print(*{'av', 'soxr', 'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
