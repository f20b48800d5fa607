"""MIDI files and a table become recordings and labels: the notes at their time, whole or not at all, the same twice."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import mido
import numpy as np
import pytest

from samplecnn.contract import PERFORMER, TAKE
from samplecnn.errors import UserError
from samplecnn.labels import LabelSettings, read_labels
from samplecnn.performances.instrument import Samples
from samplecnn.performances.midi import (
    PIANOS,
    Rendering,
    RenderSettings,
    plan_renderings,
    render_recordings,
    rendered_labels_csv,
)
from samplecnn.tables import read_csv
from tests.fixtures import HANGS_S
from tests.fixtures.scripts import SCRIPTS

ONSETS_S = (0.5, 1.5, 2.5)
LENGTH_S = 3.25
TABLE = "recording,grade,mark,performer,piece\nann 1.flac,A,0.5,ann,waltz\nben 1.flac,C,-0.25,ben,waltz\n"


def write_midi(path: Path, *pitches: int, velocity: int = 80) -> None:
    """Notes or chords of 0.4 s, at 120 beats a minute; the file ends at LENGTH_S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(tracks=[track_of(pitch, velocity) for pitch in pitches]).save(str(path))


def track_of(pitch: int, velocity: int) -> mido.MidiTrack:
    track = mido.MidiTrack()
    ticks = 0

    def at(second: float, message: mido.Message | mido.MetaMessage) -> None:
        nonlocal ticks
        now = round(second * 960)  # 480 a beat
        track.append(message.copy(time=now - ticks))
        ticks = now

    for onset_s in ONSETS_S:
        at(onset_s, mido.Message("note_on", note=pitch, velocity=velocity))
        at(onset_s + 0.4, mido.Message("note_off", note=pitch))
    at(LENGTH_S, mido.MetaMessage("end_of_track"))
    return track


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    write_midi(tmp_path / "midi" / "ann 1.mid", 69)
    write_midi(tmp_path / "midi" / "ben 1.midi", 57)
    return tmp_path / "midi"


def plan(midi: Path, settings: RenderSettings, table: str = TABLE) -> list[Rendering]:
    return plan_renderings(str(midi), list(csv.DictReader(io.StringIO(table))), "table.csv", settings)


def samples(path: Path) -> tuple[Samples, int]:
    """Mono samples and sample rate of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.channels == 1
        samples_T = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
        scale = 32768.0 if samples_T.dtype == np.int16 else 1.0
        return np.asarray(samples_T / scale, np.float32), stream.rate


def rms_db(samples_T: Samples) -> float:
    return float(10.0 * np.log10(np.mean(samples_T**2)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the plan --------------------------------------------------------------------------------------------------------


def test_each_combination_is_a_recording_whose_name_says_what_varies(midi: Path) -> None:
    names = [each.name for each in plan(midi, RenderSettings(pianos="all", rooms="hall", levels="0,12"))]
    assert names == [
        f"{stem}_{piano}_{level}.flac" for stem in ("ann 1", "ben 1") for piano in PIANOS for level in ("0dB", "12dB")
    ]
    assert [each.name for each in plan(midi, RenderSettings(rooms="hall", formats="m4a"))] == ["ann 1.m4a", "ben 1.m4a"]


def test_labels_carry_the_table_and_say_how_each_recording_was_made(midi: Path) -> None:
    planned = plan(midi, RenderSettings(rooms="none,hall", levels="6"))
    written = rendered_labels_csv(planned).decode()
    assert written.splitlines() == [
        "recording,grade,mark,performer,piece,take,piano,room,level_db",
        "ann 1_none.flac,A,0.5,ann,waltz,ann 1,fluidr3,none,-6",
        "ann 1_hall.flac,A,0.5,ann,waltz,ann 1,fluidr3,hall,-6",
        "ben 1_none.flac,C,-0.25,ben,waltz,ben 1,fluidr3,none,-6",
        "ben 1_hall.flac,C,-0.25,ben,waltz,ben 1,fluidr3,hall,-6",
    ]


def test_no_split_parts_the_renderings_of_one_performance(tmp_path: Path) -> None:
    rows = []
    for number in range(12):  # some players are known, some not, and some takes have several parts
        write_midi(tmp_path / f"{number}.mid", 69)
        known = f"p{number // 4}" if number < 8 else ""
        rows.append(f"{number}.flac,{'ABC'[number % 3]},{known},{f't{number // 2}' if number < 4 else ''}")
    table = "\n".join(("recording,grade,performer,take", *rows))
    planned = plan(tmp_path, RenderSettings(pianos="all", rooms="all"), table)
    assert len(planned) == 12 * len(PIANOS) * 7
    settings = LabelSettings()
    labels = read_labels(rendered_labels_csv(planned), "labels.csv", settings).labels
    group_of = {label.recording: label.group for label in labels}
    for column in (PERFORMER, TAKE):
        for stem in {each.stem for each in planned}:
            assert len({each.row[column] for each in planned if each.stem == stem}) == 1
    for stem in {each.stem for each in planned}:
        assert len({group_of[each.name] for each in planned if each.stem == stem}) == 1
    assert len(set(group_of.values())) == 2 + 4  # two known players, four performances by nobody knows whom


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("name,grade\na.flac,A\n", "no column recording"),
        ("recording,grade\n", "no column recording"),
        ("recording,grade\ncarl 1.flac,A\n", "carl 1.mid: no such file"),
        ("recording,grade\n../ann 1.flac,A\n", "names no file"),
        ("recording,grade\nann 1.flac,A\nann 1.wav,A\n", "two lines become"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(midi: Path, table: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as refusal:
        plan(midi, RenderSettings(), table)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [{"pianos": "steinway"}, {"rooms": "bath"}, {"formats": "doc"}, {"levels": "loud"}, {"levels": "-3"}],
)
def test_a_sound_that_there_is_not_is_refused_by_its_flag(wrong: dict[str, str]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong))}"):
        RenderSettings(**wrong)


# --- the sound -------------------------------------------------------------------------------------------------------


def test_notes_sound_when_and_at_the_pitch_they_are_played_and_the_file_ends_with_the_midi(
    midi: Path, tmp_path: Path, small_piano: str
) -> None:
    assert render_recordings(str(tmp_path / "out"), plan(midi, RenderSettings(pianos=small_piano)), workers=1) == 2
    for name, hz in (("ann 1.flac", 440.0), ("ben 1.flac", 220.0)):
        samples_T, rate = samples(tmp_path / "out" / name)
        assert len(samples_T) == round(LENGTH_S * rate)
        for onset_s in ONSETS_S:
            onset = round(onset_s * rate)
            before, after = samples_T[onset - rate // 10 : onset], samples_T[onset : onset + rate // 10]
            assert rms_db(after) > rms_db(before + 1e-6) + 12.0
        heard = samples_T[round(0.55 * rate) : round(0.85 * rate)]
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 8 * len(heard)))
        near = np.abs(np.fft.rfftfreq(8 * len(heard), 1 / rate) - hz) < 20.0
        peak_hz = np.fft.rfftfreq(8 * len(heard), 1 / rate)[near][spectrum[near].argmax()]
        assert peak_hz == pytest.approx(hz, rel=0.005)
        assert spectrum[near].max() > 0.1 * spectrum.max()


def test_loudness_is_part_of_the_playing_and_a_level_is_the_same_for_all(tmp_path: Path, small_piano: str) -> None:
    write_midi(tmp_path / "soft.mid", 69, velocity=40)
    write_midi(tmp_path / "loud.mid", 69, velocity=110)
    planned = plan(tmp_path, RenderSettings(pianos=small_piano, levels="0,12"), "recording\nsoft.flac\nloud.flac\n")
    render_recordings(str(tmp_path / "out"), planned, workers=1)
    db = {each.name: rms_db(samples(tmp_path / "out" / each.name)[0]) for each in planned}
    assert db["loud_0dB.flac"] - db["soft_0dB.flac"] > 6.0
    for stem in ("soft", "loud"):
        assert db[f"{stem}_0dB.flac"] - db[f"{stem}_12dB.flac"] == pytest.approx(12.0, abs=0.1)


def test_a_room_goes_on_sounding_after_the_note(midi: Path, tmp_path: Path, small_piano: str) -> None:
    planned = plan(midi, RenderSettings(pianos=small_piano, rooms="studio,hall"))
    render_recordings(str(tmp_path / "out"), planned, workers=1)

    def decay_db(name: str) -> float:
        samples_T, rate = samples(tmp_path / "out" / name)
        note, gap = (samples_T[round(s * rate) : round((s + 0.2) * rate)] for s in (0.6, 1.25))
        return rms_db(note) - rms_db(gap + 1e-6)

    for stem in ("ann 1", "ben 1"):
        assert decay_db(f"{stem}_studio.flac") > decay_db(f"{stem}_hall.flac") + 6.0


def test_every_format_holds_the_same_playing(midi: Path, tmp_path: Path, small_piano: str) -> None:
    planned = plan(midi, RenderSettings(pianos=small_piano, formats="all"), "recording\nann 1.flac\n")
    assert render_recordings(str(tmp_path / "out"), planned, workers=1) == 5
    found = {each.name: samples(tmp_path / "out" / each.name) for each in planned}
    for samples_T, rate in found.values():
        assert len(samples_T) / rate == pytest.approx(LENGTH_S, abs=0.15)
        assert rms_db(samples_T) == pytest.approx(rms_db(found["ann 1.wav"][0]), abs=0.8)
    assert np.array_equal(found["ann 1.wav"][0], found["ann 1.flac"][0])


def test_what_passes_full_scale_is_refused_and_every_other_file_is_made(
    midi: Path, tmp_path: Path, small_piano: str
) -> None:
    write_midi(midi / "ann 1.mid", *range(40, 90), velocity=127)  # with both arms
    with pytest.raises(UserError, match=r"ann 1\.mid: passes full scale by .* --levels"):
        render_recordings(str(tmp_path / "out"), plan(midi, RenderSettings(pianos=small_piano)), workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ben 1.flac"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no music",
        b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\x40\0",
        b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\x0a\0\xff\x59\x02\x09\0\0\xff\x2f\0",  # nine sharps
        b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\x08\0\x90\x40\x40\1\xff\x2f\0",  # no ticks to a quarter
        b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\0\0\x0b\0\x90\x40\x40\xff\xff\xff\x7f\xff\x2f\0",  # years
    ],
)
def test_what_is_no_midi_file_is_named_in_one_line(
    midi: Path, tmp_path: Path, small_piano: str, content: bytes
) -> None:
    (midi / "ann 1.mid").write_bytes(content)
    with pytest.raises(UserError, match=r"ann 1\.mid: (not a MIDI file|holds no music|lasts \d+ hours)"):
        render_recordings(str(tmp_path / "out"), plan(midi, RenderSettings(pianos=small_piano)), workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ben 1.flac"]


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_two_processes_write_the_same_bytes_as_one_and_intact_files_are_kept(
    midi: Path, tmp_path: Path, small_piano: str
) -> None:
    planned = plan(midi, RenderSettings(pianos=small_piano, rooms="none,living"))
    assert render_recordings(str(tmp_path / "one"), planned, workers=1) == 4
    assert render_recordings(str(tmp_path / "two"), planned, workers=2) == 4
    before = contents(tmp_path / "one")
    assert contents(tmp_path / "two") == before

    assert render_recordings(str(tmp_path / "one"), planned, workers=1) == 0
    (tmp_path / "one" / "ann 1_none.flac").unlink()
    (tmp_path / "one" / "ben 1_none.flac").write_bytes(before["ben 1_none.flac"][:5000])
    assert render_recordings(str(tmp_path / "one"), planned, workers=1) == 2
    assert contents(tmp_path / "one") == before

    write_midi(midi / "ann 1.mid", 72)  # played anew: its recordings are made anew
    assert render_recordings(str(tmp_path / "one"), planned, workers=1) == 2
    assert contents(tmp_path / "one")["ann 1_none.flac"] != before["ann 1_none.flac"]


def test_a_killed_run_leaves_whole_files_and_is_finished_by_the_same_command(tmp_path: Path, small_piano: str) -> None:
    stems = [f"take {number}" for number in range(8)]
    for number, stem in enumerate(stems):
        write_midi(tmp_path / "midi" / f"{stem}.mid", 50 + number)
    (tmp_path / "table.csv").write_text("recording\n" + "".join(f"{stem}.flac\n" for stem in stems), encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "render_midi.py"), "--workers", "1", "--pianos", small_piano]
    for place in ("midi", "table.csv", "recordings", "labels.csv"):
        command += [f"--{place.removesuffix('.csv')}", str(tmp_path / place)]

    recordings = tmp_path / "recordings"
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + HANGS_S
    while killed.poll() is None and not list(recordings.glob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()

    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("8 recordings in")
    assert ", 0 already there" not in ended.stdout

    rows = read_csv((tmp_path / "table.csv").read_bytes(), "table.csv")
    planned = plan_renderings(str(tmp_path / "midi"), rows, "table.csv", RenderSettings(pianos=small_piano))
    assert render_recordings(str(tmp_path / "undisturbed"), planned, workers=1) == 8
    whole, found = contents(tmp_path / "undisturbed"), contents(recordings)
    assert sorted(whole) == [f"{stem}.flac" for stem in stems]
    assert {name: found[name] for name in whole} == whole
    assert (tmp_path / "labels.csv").read_bytes() == rendered_labels_csv(planned)


def test_a_bucket_is_refused(midi: Path) -> None:
    with pytest.raises(UserError, match="local folder"):
        render_recordings("gs://bucket/recordings", plan(midi, RenderSettings()))


def test_what_is_not_installed_is_told_with_its_command(midi: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "render_midi.py"), "--midi", str(midi)]
    command += ["--table", str(tmp_path / "table.csv"), "--recordings", str(tmp_path / "out")]
    ended = subprocess.run(
        [*command, "--labels", str(tmp_path / "labels.csv")],
        env={**os.environ, "PATH": str(tmp_path)},  # no program is there
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert ended.returncode == 2
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("error: not installed: fluidsynth")
    assert "apt-get install -y fluidsynth" in told
    assert not (tmp_path / "out").exists()
    assert PIANOS["fluidr3"].package in told or os.path.isfile(PIANOS["fluidr3"].soundfont)
