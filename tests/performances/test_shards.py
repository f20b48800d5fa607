"""What is read back from a shard is what was drawn, and of a fault that is left out there is an expert's."""

import numpy as np

from samplecnn.performances.drawn import TARGETS, draw, perform_drawn, render_drawn, targets
from samplecnn.performances.shards import read_performances, write_shard
from samplecnn.pretraining import NOT_TAUGHT
from samplecnn.segments import SegmentSettings

RATE, SEED, PERFORMERS = 100, 3, 2
SEGMENTS = SegmentSettings(sample_rate=RATE, segment_s=1.0, hop_s=1.0)


def written(place, numbers, shard="data/one.parquet", **more) -> None:
    write_shard(str(place), shard, numbers, performers=PERFORMERS, sample_rate=RATE, seed=SEED, **more)


def test_performances_are_read_back_as_they_were_drawn(tmp_path) -> None:
    written(tmp_path, range(2), "data/one.parquet")
    written(tmp_path, range(2, 3), "data/two.parquet")
    taught = read_performances(str(tmp_path), ["data/one.parquet", "data/two.parquet"], SEGMENTS, str(tmp_path))
    assert taught.performer_R.tolist() == [0, 1, 0]
    assert set(taught.names) == set(TARGETS) - set(NOT_TAUGHT)
    for number in range(3):
        drawn = draw(SEED, number, performers=PERFORMERS)
        performance = perform_drawn(drawn)
        assert np.array_equal(taught.recordings.waveform(number), render_drawn(drawn, performance, RATE))
        told = dict(zip(TARGETS, targets(drawn, performance), strict=True))
        expected_K = np.array([told[name] for name in taught.names])
        assert np.array_equal(taught.target_RK[number], expected_K, equal_nan=True)


def test_a_fault_that_is_left_out_is_an_experts_in_all_that_is_written(tmp_path) -> None:
    for place, more in (("usual", {}), ("without", {"exclude_faults": ("uneven_touch",)})):
        written(tmp_path / place, range(4), **more)
    usual, without = (
        read_performances(str(tmp_path / place), ["data/one.parquet"], SEGMENTS, str(tmp_path / place)).target_RK
        for place in ("usual", "without")
    )
    names = [name for name in TARGETS if name not in NOT_TAUGHT]
    touch = names.index("log_uneven_touch")
    assert without[:, touch].tolist() == [0.0] * 4
    assert (np.abs(usual[:, touch]) > 0.01).all()
    spread = names.index("touch_spread")
    assert (without[:, spread] != usual[:, spread]).all()
    same = [column for column in range(len(names)) if column not in (touch, spread)]
    assert np.array_equal(usual[:, same], without[:, same], equal_nan=True)
