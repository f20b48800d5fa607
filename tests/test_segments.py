import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from samplecnn.audio import Decoded
from samplecnn.contract import (
    ACTIVITY,
    FRAME_S,
    FRAMES_PER_S,
    RMS_DBFS,
    START_S,
    VALID_SAMPLES,
    frames_of,
    segments_schema,
)
from samplecnn.errors import UserError
from samplecnn.segments import (
    BATCH_SEGMENTS,
    SegmentSettings,
    activity,
    cut,
    grading_windows,
    level_dbfs,
    normalising_gain,
    playing_dbfs,
    rebuild,
    take,
    window_levels,
)

RATE = 500
FRAME = round(FRAME_S * RATE)
LOUD, QUIET = 0.1, 0.0  # frame powers


def decoded(wave_T, power_F=None, rate=RATE):
    power_F = np.full(frames_of(len(wave_T), rate), LOUD) if power_F is None else power_F
    return Decoded(wave_T, rate, power_F, len(wave_T) / rate, 44_100, 1, "flac", ())


def cut_table(wave_T, chosen, power_F=None):
    batches = cut("a/b.flac", "v1", decoded(wave_T, power_F, chosen.sample_rate), chosen)
    return pa.Table.from_batches(list(batches), segments_schema(chosen.segment_samples, chosen.sample_rate))


def wave(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


segment_settings = st.builds(
    lambda rate, segment_s, share: SegmentSettings(sample_rate=rate, segment_s=segment_s, hop_s=share * segment_s),
    st.sampled_from([500, 551, 1000, 2000]),
    st.floats(0.05, 3.0),
    st.floats(0.05, 1.0),
)


@settings(deadline=None, max_examples=60)
@given(segment_settings, st.integers(1, 6000), st.randoms())
def test_stored_rows_rebuild_the_recording_exactly(chosen, samples, random):
    wave_T = wave(samples, random.randrange(1000))

    table = cut_table(wave_T, chosen)
    rebuilt_T, _ = rebuild(table)

    np.testing.assert_array_equal(rebuilt_T, wave_T)  # so every sample of the recording is in a row
    starts, valid = table[START_S].to_numpy(), table[VALID_SAMPLES].to_numpy()
    ends = np.rint(starts * chosen.sample_rate) + valid
    assert (np.diff(ends) > 0).all()  # and no row adds nothing


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.sampled_from([LOUD, QUIET]), min_size=1, max_size=200))
def test_frame_flags_survive_the_rows_where_hops_are_whole_frames(segment_frames, hop_frames, powers):
    assume(hop_frames <= segment_frames)
    chosen = SegmentSettings(segment_s=segment_frames * FRAME_S, hop_s=hop_frames * FRAME_S)
    power_F = np.array(powers)

    _, active_F = rebuild(cut_table(wave(len(powers) * FRAME - 3), chosen, power_F))

    np.testing.assert_array_equal(active_F, power_F == LOUD)


def test_last_piece_is_stored_however_short():
    table = cut_table(wave(2 * 5000 + 1), SegmentSettings())
    assert table[VALID_SAMPLES].to_pylist() == [5000, 5000, 1]
    assert table[START_S].to_pylist() == [0.0, 10.0, 20.0]


def test_short_recording_yields_one_padded_segment():
    table = cut_table(wave(1200), SegmentSettings())
    assert table[VALID_SAMPLES].to_pylist() == [1200]
    assert table[ACTIVITY].to_pylist() == [1.0]
    stored_T = table["waveform"].combine_chunks().flatten().to_numpy()
    assert len(stored_T) == 5000
    assert not stored_T[1200:].any()


def test_rows_carry_the_level_of_the_full_rate_and_the_share_of_playing():
    power_F = np.repeat([0.5, 0.0], 100)  # 5 s of playing, 5 s of silence
    table = cut_table(wave(5000), SegmentSettings(), power_F)
    assert table[ACTIVITY].to_pylist() == [0.5]
    assert table[RMS_DBFS].to_pylist() == [pytest.approx(10 * math.log10(0.25), abs=1e-4)]


def test_frames_that_the_files_own_clock_lacks_are_silent():
    table = cut_table(wave(5001), SegmentSettings(), np.full(200, LOUD))  # the 201st frame holds one sample
    assert table[ACTIVITY].to_pylist() == [1.0, 0.0]
    assert table[RMS_DBFS].to_pylist()[1] == -120.0


def test_batches_are_bounded():
    chosen = SegmentSettings(segment_s=0.1, hop_s=0.1)
    sizes = [len(batch) for batch in cut("a.wav", "1", decoded(wave(50 * (BATCH_SEGMENTS + 5))), chosen)]
    assert sizes == [BATCH_SEGMENTS, 5]


def test_rows_out_of_order_or_missing_are_refused():
    table = cut_table(wave(15_000), SegmentSettings())
    for rows in ([1, 0, 2], [0, 2], []):
        with pytest.raises(ValueError, match="missing or out of order"):
            rebuild(table.take(pa.array(rows, pa.int64())))


def test_activity_needs_a_level_near_the_loud_frames():
    power_F = 10 ** (np.array([-10.0, -12, -49, -53, -61, -120]) / 10)
    assert activity(power_F).tolist() == [True, True, True, False, False, False]


def test_activity_of_noise_below_the_floor_is_none():
    assert not activity(np.full(100, 1e-7)).any()
    assert not activity(np.zeros(100)).any()


def test_level_of_silence_is_a_number():
    assert level_dbfs([0.0, 1.0, 0.01]).tolist() == [-120.0, 0.0, pytest.approx(-20.0)]


@settings(deadline=None, max_examples=60)
@given(
    segment_settings.filter(lambda chosen: chosen.sample_rate != 551),  # a frame is a whole number of samples
    st.integers(1, 80),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_silence_before_and_after_moves_no_window(chosen, frames, before, after):
    frame = round(FRAME_S * chosen.sample_rate)
    wave_T, active_F = wave(frames * frame), np.ones(frames, np.bool_)
    padded_T = np.pad(wave_T, (before * frame, after * frame))
    padded_F = np.pad(active_F, (before, after))

    def taken(wave_T, active_F):
        windows = grading_windows(active_F, len(wave_T), chosen)
        gain = normalising_gain(wave_T, active_F, chosen.sample_rate)
        return take(wave_T, windows, 0, len(windows), chosen.segment_samples), windows.activity_S, gain

    plain, padded = taken(wave_T, active_F), taken(padded_T, padded_F)
    np.testing.assert_array_equal(plain[0], padded[0])
    np.testing.assert_array_equal(plain[1], padded[1])
    assert plain[2] == pytest.approx(padded[2], rel=1e-12)


def test_silence_around_changes_no_frames_flag():
    power_F = 10 ** (np.random.default_rng(1).uniform(-70, -5, 300) / 10)
    padded_F = np.pad(power_F, (900, 40))
    np.testing.assert_array_equal(activity(padded_F)[900:1200], activity(power_F))


@settings(deadline=None, max_examples=100)
@given(segment_settings, st.integers(1, 4000), st.randoms())
def test_windows_lie_in_the_recording_and_leave_out_less_than_half_a_segment(chosen, samples, random):
    flags = np.random.default_rng(random.randrange(1000))
    active_F = flags.random(frames_of(samples, chosen.sample_rate)) < flags.choice([0, 0.01, 0.5, 1])

    windows = grading_windows(active_F, samples, chosen)

    assert len(windows) >= 1
    assert (windows.valid_S >= 1).all()
    assert (windows.valid_S <= chosen.segment_samples).all()
    assert windows.start_S[0] >= 0
    assert (windows.start_S + windows.valid_S).max() <= samples
    assert ((windows.activity_S >= 0) & (windows.activity_S <= 1)).all()
    np.testing.assert_array_equal(np.diff(windows.start_S), chosen.hop_samples)
    frame_T = np.arange(samples) * FRAMES_PER_S // chosen.sample_rate
    played = np.flatnonzero(active_F[frame_T])
    if len(played):
        assert windows.start_S[0] == played[0]
        left_out = played[-1] + 1 - (windows.start_S[-1] + windows.valid_S[-1])
        assert left_out < 0.5 * chosen.segment_samples


def test_windows_start_where_the_playing_starts():
    active_F = np.zeros(600, np.bool_)
    active_F[30:500] = True
    windows = grading_windows(active_F, 600 * FRAME, SegmentSettings())
    assert windows.start_s.tolist() == [1.5, 11.5]  # the last 3.5 s are less than half a segment
    assert windows.valid_S.tolist() == [5000, 5000]
    assert windows.activity_S.tolist() == [1.0, 1.0]


def test_last_window_counts_from_half_a_segment():
    windows = grading_windows(np.ones(300, np.bool_), 300 * FRAME, SegmentSettings())
    assert windows.valid_S.tolist() == [5000, 2500]


def test_silent_recording_has_windows_too():
    windows = grading_windows(np.zeros(400, np.bool_), 400 * FRAME, SegmentSettings())
    assert windows.start_S.tolist() == [0, 5000]
    assert windows.activity_S.tolist() == [0.0, 0.0]


def test_gain_is_taken_over_active_frames_alone():
    wave_T = np.concatenate([np.full(100 * FRAME, 0.5), np.full(300 * FRAME, 0.001)]).astype(np.float32)
    active_F = np.repeat([True, False], [100, 300])
    assert normalising_gain(wave_T, active_F, RATE) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_gain_of_silence_is_zero_and_never_infinite(value):
    wave_T = np.full(1000, value, np.float32)
    assert normalising_gain(wave_T, np.ones(40, np.bool_), RATE) == 0.0
    assert normalising_gain(wave_T, np.zeros(40, np.bool_), RATE) == 0.0


def test_gain_over_blocks_is_that_of_the_whole():
    wave_T = wave((1 << 20) + 12_345)
    active_F = np.ones(frames_of(len(wave_T), RATE), np.bool_)
    expected = 1 / math.sqrt(float(np.mean(wave_T.astype(np.float64) ** 2)))
    assert normalising_gain(wave_T, active_F, RATE) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ({"hop_s": 11.0}, "--hop-s"),
        ({"hop_s": 0.0}, "--hop-s"),
        ({"hop_s": math.nan}, "--hop-s"),
        ({"hop_s": 0.0001}, "--hop-s"),
        ({"segment_s": 0.0}, "--segment-s"),
        ({"segment_s": math.inf}, "--segment-s"),
        ({"sample_rate": 0}, "--sample-rate"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_the_flags_name(mistake, named):
    with pytest.raises(UserError, match=f"^{named} "):
        SegmentSettings(**mistake)


def test_levels_of_a_window_say_how_loud_each_half_second_is():
    power_F = np.repeat([0.0, 0.01, 1.0], 10)  # half a second each
    chosen = SegmentSettings(sample_rate=RATE, segment_s=1.0, hop_s=0.5)
    windows = grading_windows(activity(power_F), 30 * FRAME, chosen)
    assert windows.start_s[0] == 0.5  # where playing starts
    levels_SL = window_levels(power_F, windows, chosen.segment_s)
    assert levels_SL[0] == [-20, 0]
    assert all(len(levels_L) == 2 for levels_L in levels_SL)
    assert playing_dbfs(power_F, activity(power_F)) == pytest.approx(10 * math.log10(0.505))
    assert playing_dbfs(power_F, np.zeros(30, bool)) == -120
