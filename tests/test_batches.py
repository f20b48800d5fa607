import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from samplecnn.batches import active_stretch, batch, epoch_items, read_recordings
from samplecnn.errors import JobError
from samplecnn.labels import Label
from samplecnn.segments import SegmentSettings
from tests.fixtures.shards import SETTINGS, graded_set, silence, tone, write_shard

OTHER_COLUMNS = {
    "recording": lambda rows: rows.rename_columns({"recording": "file"}),
    "waveform": lambda rows: rows.drop_columns("waveform"),
    "start_s": lambda rows: rows.set_column(3, "start_s", [["0"] * len(rows)]),
    "active": lambda rows: rows.set_column(8, "active", [[[True]] * len(rows)]),
}


def _read(paths, names, tmp_path, grades=None, settings=SETTINGS):
    grades = [0] * len(names) if grades is None else grades
    labels = {name: [Label(name, grade, f"g{name}")] for name, grade in zip(names, grades, strict=True)}
    return read_recordings(fs.LocalFileSystem(), paths, labels, settings, str(tmp_path))


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    return graded_set(tmp_path_factory.mktemp("nine"))


def test_recordings_come_out_of_the_shards_as_they_went_in(tmp_path):
    overlapping = SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.4)
    waves = {f"{n}.wav": tone(0.6 + 3.1 * n, n % 3, n) for n in range(6)}
    first = write_shard(tmp_path / "a.parquet", dict(list(waves.items())[:3]), overlapping)
    second = write_shard(tmp_path / "b.parquet", dict(list(waves.items())[3:]), overlapping)
    names = ["4.wav", "0.wav", "2.wav"]

    recordings = _read([first, second], names, tmp_path, [2, 0, 1], overlapping)

    assert recordings.names == ("0.wav", "2.wav", "4.wav")
    assert recordings.grade_R.tolist() == [0, 1, 2]
    assert recordings.groups == ("g0.wav", "g2.wav", "g4.wav")
    for i, name in enumerate(recordings.names):
        assert np.array_equal(recordings.waveform(i), waves[name])
        level = recordings.gain_R[i] * recordings.waveform(i).astype(np.float64)
        assert np.sqrt((level**2).mean()) == pytest.approx(1, rel=1e-5)


def test_a_subset_shares_the_file_and_survives_a_process_border(nine):
    part = pickle.loads(pickle.dumps(nine.subset([7, 2])))

    assert part.names == (nine.names[7], nine.names[2])
    assert part.path == nine.path
    assert np.array_equal(part.waveform(0), nine.waveform(7))
    assert len(pickle.dumps(part)) < 10_000


def test_recordings_that_could_not_be_graded_are_left_out_and_named(tmp_path, caplog):
    waves = {"mute.wav": silence(3), "good.wav": tone(3, 0, 1), "enough.wav": tone(0.5, 0, 2)}
    waves["short.wav"] = np.concatenate([tone(0.4, 0, 3), silence(2)])
    path = write_shard(tmp_path / "a.parquet", waves)

    recordings = _read([path], sorted(waves), tmp_path, [0, 1, 0, 1])

    assert recordings.names == ("enough.wav", "good.wav")
    assert recordings.left_out == ("mute.wav", "short.wav")
    assert "mute.wav, short.wav" in caplog.text


@pytest.mark.parametrize("column", OTHER_COLUMNS)
def test_a_shard_of_other_columns_is_named(column, tmp_path):
    path = write_shard(tmp_path / "a.parquet", {"x.wav": tone(3, 0, 1)})
    pq.write_table(OTHER_COLUMNS[column](pq.read_table(path)), path)
    with pytest.raises(JobError, match=rf"a\.parquet: its column {column} is missing or of another type"):
        _read([path], ["x.wav"], tmp_path)


def test_a_shard_of_segments_of_another_length_is_named(tmp_path):
    longer = SegmentSettings(sample_rate=500, segment_s=2.0, hop_s=2.0)
    path = write_shard(tmp_path / "a.parquet", {"x.wav": tone(3, 0, 1)}, longer)
    with pytest.raises(JobError, match=r"a\.parquet: its column active is missing or of another type"):
        _read([path], ["x.wav"], tmp_path)


def test_a_shard_that_is_gone_or_none_is_named(tmp_path):
    with pytest.raises(JobError, match=r"a\.parquet: missing, though the log names it"):
        _read([str(tmp_path / "a.parquet")], ["x.wav"], tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then the power went")
    with pytest.raises(JobError, match=r"a\.parquet: damaged"):
        _read([str(tmp_path / "a.parquet")], ["x.wav"], tmp_path)


def test_a_recording_that_is_missing_or_there_twice_or_in_part_is_an_error(tmp_path):
    whole = write_shard(tmp_path / "a.parquet", {"x.wav": tone(3, 0, 1)})
    again = write_shard(tmp_path / "b.parquet", {"x.wav": tone(3, 0, 1)})
    parted = str(tmp_path / "c.parquet")
    pq.write_table(pq.read_table(whole).slice(1), parted)

    with pytest.raises(JobError, match=r"z\.wav: not in the segments"):
        _read([whole], ["x.wav", "z.wav"], tmp_path)
    with pytest.raises(JobError, match=r"x\.wav: lies in the segments twice"):
        _read([whole, again], ["x.wav"], tmp_path)
    with pytest.raises(JobError, match=r"x\.wav: its segments cannot be put together"):
        _read([parted], ["x.wav"], tmp_path)


def test_an_epoch_is_whole_batches_with_each_grade_equally_often(tmp_path):
    waves = {f"{n}.wav": tone(4, 0, n) for n in range(10)}
    path = write_shard(tmp_path / "a.parquet", waves)
    recordings = _read([path], list(waves), tmp_path, [0] * 7 + [1] * 2 + [2])

    items = epoch_items(recordings, seed=0, epoch=0, crops=3, batch_size=8)

    assert len(items) == 32  # 30 windows are nearest to four batches of 8
    drawn = np.bincount(recordings.grade_R[items.recording_N])
    assert drawn.max() - drawn.min() <= 1
    first_grade = np.bincount(items.recording_N)[:7]
    assert first_grade.max() - first_grade.min() <= 1


def test_a_small_set_still_fills_one_batch(nine):
    assert len(epoch_items(nine.subset([0, 1]), seed=0, epoch=0, crops=1, batch_size=64)) == 64


def test_an_epoch_is_a_function_of_seed_and_epoch_alone(nine):
    def drawn(seed, epoch):
        items = epoch_items(nine, seed, epoch, crops=4, batch_size=6)
        return np.stack([items.recording_N, items.start_N, items.key_N]).tolist()

    np.random.seed(1)
    once = drawn(3, 5)
    np.random.seed(2)
    assert drawn(3, 5) == once
    assert drawn(3, 6) != once
    assert drawn(4, 5) != once
    assert len(set(once[2])) == len(once[2])


def test_windows_start_anywhere_within_the_playing(tmp_path):
    wave_T = np.concatenate([silence(2), tone(5, 1, 0), silence(3)])
    recordings = _read([write_shard(tmp_path / "a.parquet", {"x.wav": wave_T})], ["x.wav"], tmp_path)

    items = epoch_items(recordings, seed=0, epoch=0, crops=400, batch_size=8)

    assert active_stretch(recordings, 0) == (1000, 3500)
    assert items.start_N.min() >= 1000
    assert items.start_N.max() <= 3000
    assert len(set(items.start_N % 500)) > 200


def test_windows_avoid_pauses(tmp_path):
    wave_T = np.concatenate([tone(2, 1, 0), silence(4), tone(2, 1, 0)])
    recordings = _read([write_shard(tmp_path / "a.parquet", {"x.wav": wave_T})], ["x.wav"], tmp_path)

    items = epoch_items(recordings, seed=0, epoch=0, crops=200, batch_size=8)

    silent = (items.start_N > 1000) & (items.start_N < 2500)
    assert silent.mean() < 0.02
    assert (items.start_N < 1000).any()
    assert (items.start_N >= 2500).any()


@given(before=st.integers(0, 1200), playing=st.integers(300, 3000), after=st.integers(0, 1200))
@settings(max_examples=25, deadline=None)
def test_training_hears_the_stretch_that_grading_hears(tmp_path_factory, before, playing, after):
    tmp_path = tmp_path_factory.mktemp("stretch")
    wave_T = np.concatenate([silence(before / 500), tone(playing / 500, 1, 0), silence(after / 500)])
    recordings = _read([write_shard(tmp_path / "a.parquet", {"x.wav": wave_T})], ["x.wav"], tmp_path)

    first, end = active_stretch(recordings, 0)
    windows = recordings.windows(0)
    items = epoch_items(recordings, seed=0, epoch=0, crops=20, batch_size=20)

    assert first == windows.start_S[0]
    assert end >= windows.start_S[-1] + windows.valid_S[-1]
    assert (items.start_N >= first).all()
    assert (items.start_N < end).all()
    waveform_BT = batch(recordings, items).waveform_BT
    assert waveform_BT.isfinite().all()
    assert (waveform_BT != 0).any(1).all()


def test_a_batch_is_normalised_padded_and_carries_its_keys(tmp_path):
    waves = {"short.wav": tone(0.6, 2, 0), "long.wav": tone(5, 1, 1)}
    recordings = _read([write_shard(tmp_path / "a.parquet", waves)], list(waves), tmp_path, [2, 1])

    items = epoch_items(recordings, seed=0, epoch=0, crops=8, batch_size=8)
    drawn = batch(recordings, items)

    assert drawn.waveform_BT.shape == (16, 500)
    assert drawn.rank_B.tolist() == [i + 1 for i in items.recording_N]
    assert drawn.key_B.tolist() == items.key_N.tolist()
    for row_T, i, start in zip(drawn.waveform_BT.numpy(), items.recording_N, items.start_N, strict=True):
        piece_T = recordings.waveform(i)[start : start + 500] * recordings.gain_R[i]
        assert np.array_equal(row_T[: len(piece_T)], piece_T)
        assert not row_T[len(piece_T) :].any()


@pytest.mark.parametrize("rate", [500, 22_050])
def test_of_a_recording_only_the_part_that_was_judged_is_learnt_from(tmp_path, rate):
    settings = SegmentSettings(sample_rate=rate, segment_s=1.0, hop_s=1.0)
    wave_T = np.concatenate([tone(4, 0, 1, rate), tone(4, 2, 2, rate)])
    path = write_shard(tmp_path / "shard.parquet", {"a.wav": wave_T, "b.wav": wave_T}, settings)
    labels = {"a.wav": [Label("a.wav", 0, "a", part=(4.0, 7.0))], "b.wav": [Label("b.wav", 2, "b")]}
    found = read_recordings(fs.LocalFileSystem(), [path], labels, settings, str(tmp_path))
    assert found.length_R.tolist() == [3 * rate, 8 * rate]
    np.testing.assert_allclose(found.waveform(0), wave_T[4 * rate : 7 * rate], atol=1e-6)
    assert len(found.active_RF[0]) == 60
    assert found.windows(0).start_S.max() <= 2 * rate


def test_parts_of_a_recording_are_learnt_from_one_by_one(tmp_path):
    wave_T = np.concatenate([tone(4, 0, 1), tone(4, 2, 2)])
    path = write_shard(tmp_path / "shard.parquet", {"a.wav": wave_T})
    labels = {"a.wav": [Label("a.wav", 0, "a", part=(0.0, 4.0)), Label("a.wav", 2, "a", part=(4.0, 8.0))]}
    found = read_recordings(fs.LocalFileSystem(), [path], labels, SETTINGS, str(tmp_path))
    assert found.names == ("a.wav 0-4 s", "a.wav 4-8 s")
    assert found.grade_R.tolist() == [0, 2]
    for i, first in enumerate((0, 2000)):
        np.testing.assert_allclose(found.waveform(i), wave_T[first : first + 2000], atol=1e-6)
