import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import torch

from samplecnn.architecture import Plan, plan_for
from samplecnn.attention import Attention
from samplecnn.errors import RecordingError
from samplecnn.infer import BATCH, SILENT, Grader, hear, merge_windows
from samplecnn.merge import Mean, SegmentOutputs
from samplecnn.model_folder import ModelCard
from samplecnn.network import SampleCNN
from samplecnn.segments import (
    SegmentSettings,
    activity,
    cut,
    grading_windows,
    normalising_gain,
    rebuild,
    seconds_of_playing,
    take,
)
from tests.fixtures.shards import decoded, silence, tone

SETTINGS = SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.5)
PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))
SEPARATE = SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=1.0)
CPU = torch.device("cpu")


def _network(seed: int = 0) -> SampleCNN:
    network = SampleCNN(PLAN, 3, seed=seed)
    network.train()
    generator = torch.Generator().manual_seed(1)
    network(torch.randn(64, 500, generator=generator), torch.arange(64))  # BatchNorm statistics that are not 0 and 1
    return network.eval()


def _grader(**changes) -> Grader:
    card = ModelCard(plan=PLAN, settings=SETTINGS, grades=("C", "B", "A"), **changes)
    network = _network()
    if card.attention:
        network.attention = Attention(network.embedding, seed=0)
        network.attention.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return Grader(card, network, CPU)


def _active(wave_T):
    return activity(decoded(wave_T).frame_power_F)


def test_a_recording_gets_the_merged_grade_of_its_windows():
    wave_T = np.concatenate([silence(0.7), tone(5.2, 1, 0), silence(1.5)])
    active_F = _active(wave_T)

    graded = _grader().grade(wave_T, active_F)

    windows = grading_windows(active_F, len(wave_T), SETTINGS)
    x = torch.from_numpy(take(wave_T, windows, 0, len(windows), 500)) * normalising_gain(wave_T, active_F, 500)
    with torch.no_grad():
        probs_SG = torch.softmax(_network()(x.float()).double(), 1).numpy()
    np.testing.assert_allclose(graded.outputs.probs_SG, probs_SG, atol=1e-5)
    assert graded.outputs.activity_S.tolist() == windows.activity_S.tolist()
    assert graded.merged.probs_G.tolist() == Mean()(graded.outputs).probs_G.tolist()
    assert graded.weight_S.sum() == pytest.approx(1)
    assert graded.reason is None


def test_a_grade_is_the_same_bit_for_bit_whatever_else_is_graded():
    waves = [tone(2.5 + 0.9 * n, n % 3, n) for n in range(9)]
    grader = _grader()

    def bits(n):
        graded = grader.grade(waves[n], _active(waves[n]))
        return graded.merged.probs_G.tobytes() + graded.outputs.probs_SG.tobytes()

    alone = [bits(n) for n in range(9)]
    assert [bits(n) for n in reversed(range(9))] == alone[::-1]


@pytest.mark.parametrize("plan", [PLAN, plan_for(5000)])
def test_a_window_is_heard_the_same_bit_for_bit_whatever_the_batch_holds_beside_it(plan):
    network = SampleCNN(plan, 3).eval()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((BATCH, plan.segment_samples)).astype(np.float32))
    with torch.inference_mode():
        together = network(x)
        for row in range(BATCH):
            alone = torch.zeros_like(x)
            alone[row] = x[row]
            assert torch.equal(network(alone)[row], together[row])


def test_neither_level_nor_silence_around_the_playing_moves_a_grade():
    wave_T = tone(5, 2, 3)
    around_T = np.concatenate([silence(1.25), wave_T, silence(3)])
    grader = _grader()
    graded = grader.grade(wave_T, _active(wave_T)).merged

    quieter = grader.grade(wave_T / 8, _active(wave_T / 8)).merged
    framed = grader.grade(around_T, _active(around_T)).merged

    np.testing.assert_allclose(quieter.probs_G, graded.probs_G, atol=1e-6)
    np.testing.assert_allclose(framed.probs_G, graded.probs_G, atol=1e-6)


def test_what_prepare_stored_is_graded_like_the_recording_itself():
    wave_T = tone(4.4, 0, 1)
    table = pa.Table.from_batches(list(cut("x.wav", "1", decoded(wave_T), SETTINGS)))

    direct = _grader().grade(wave_T, _active(wave_T))
    stored = _grader().grade(*rebuild(table))

    assert stored.merged.probs_G.tobytes() == direct.merged.probs_G.tobytes()


@pytest.mark.parametrize(("seconds", "windows"), [(0.5, 1), (1.0, 1), (1.7, 3)])
def test_short_recordings_are_graded(seconds, windows):
    wave_T = tone(seconds, 1, 0)

    graded = _grader().grade(wave_T, _active(wave_T))

    assert len(graded.outputs.probs_SG) == windows
    assert graded.merged is not None


def test_a_silent_recording_is_not_gradable_and_says_why():
    wave_T = silence(3)

    graded = _grader().grade(wave_T, _active(wave_T))

    assert graded.merged is None
    assert graded.reason.startswith("silent: ")
    assert len(graded.outputs.probs_SG) == len(graded.weight_S) > 0
    assert not graded.weight_S.any()


def test_a_few_notes_in_a_long_silence_are_not_gradable():
    wave_T = np.concatenate([tone(0.1, 1, 0), silence(1.9), tone(0.1, 1, 1), silence(1.9), tone(0.1, 1, 2)])
    graded = _grader().grade(wave_T, _active(wave_T))

    assert graded.merged is None
    assert graded.reason == SILENT


@pytest.mark.parametrize(("seconds", "played"), [(0.02, "0.05"), (0.3, "0.30"), (0.45, "0.45")])
def test_less_playing_than_half_a_segment_is_not_gradable_whatever_silence_it_lies_in(seconds, played):
    alone_T = tone(seconds, 1, 0)
    for wave_T in (alone_T, np.concatenate([silence(0.5), alone_T, silence(4)])):
        graded = _grader().grade(wave_T, _active(wave_T))

        assert graded.merged is graded.grade is None
        assert graded.reason == f"too little playing: {played} s, less than 0.5 s: a person should hear it"
        assert len(graded.outputs.probs_SG) == len(graded.weight_S) == 1
        assert not graded.weight_S.any()


def test_a_recording_that_the_model_is_too_little_sure_of_is_not_gradable_and_says_how_little():
    wave_T = tone(4, 1, 0)
    graded = _grader().grade(wave_T, _active(wave_T))
    confidence = float(graded.merged.probs_G[graded.grade])

    at_it = _grader(least_confidence=confidence).grade(wave_T, _active(wave_T))
    above = _grader(least_confidence=np.nextafter(confidence, 1)).grade(wave_T, _active(wave_T))

    assert (at_it.grade, at_it.reason) == (graded.grade, None)
    assert above.merged is above.grade is None
    assert not above.weight_S.any()
    down = int(100 * confidence) / 100
    assert above.reason == f"not sure: confidence {down:.2f} is below {confidence:.2f}: a person should hear it"


def test_playing_counts_from_all_segments_together():
    """No segment holds half a segment of playing, the recording does."""
    wave_T = np.concatenate([part for n in range(3) for part in (tone(0.3, 1, n), silence(0.7))])
    graded = _grader().grade(wave_T, _active(wave_T))

    assert graded.outputs.activity_S.max() < 0.5
    assert graded.reason is None
    assert graded.grade is not None


def test_playing_that_the_sample_rate_cannot_carry_is_not_gradable():
    active_F = np.ones(60, bool)  # loud at the full rate, nothing left below 250 Hz

    graded = _grader().grade(silence(3), active_F)

    assert graded.merged is None
    assert graded.reason == SILENT


def test_a_higher_temperature_makes_grades_less_sure_and_keeps_their_order():
    wave_T = tone(4, 1, 0)
    sharp = _grader().grade(wave_T, _active(wave_T)).outputs.probs_SG
    soft = _grader(temperature=4.0).grade(wave_T, _active(wave_T)).outputs.probs_SG

    assert (np.ptp(soft, axis=1) < np.ptp(sharp, axis=1)).all()
    assert (soft.argmax(1) == sharp.argmax(1)).all()


def test_a_model_that_gives_no_numbers_costs_the_recording_not_the_run():
    grader = _grader()
    with torch.no_grad():
        grader._network.head.bias.fill_(float("inf"))
    wave_T = tone(2, 1, 0)

    with pytest.raises(RecordingError, match="no numbers"):
        grader.grade(wave_T, _active(wave_T))


def test_a_merge_rule_that_turns_probabilities_upside_down_costs_the_recording_not_the_run():
    wave_T = tone(4, 1, 0)
    with pytest.raises(RecordingError, match="merge rule gives no numbers"):
        _grader(merge="spread", merge_parameters={"sharpness": -5.0}).grade(wave_T, _active(wave_T))


def test_a_long_recording_passes_in_the_memory_of_one_batch(tmp_path):
    long = np.memmap(tmp_path / "long.f32", np.float32, "w+", shape=(400 * 500,))
    windows = grading_windows(np.ones(400 * 20, bool), len(long), SEPARATE)
    network = _network()
    tracemalloc.start()
    outputs_SO, embedding_SE, attention_S = hear(network, long, 1.0, windows, CPU)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert outputs_SO.shape == (400, 3)
    assert embedding_SE.shape == (400, 32)
    assert attention_S.tolist() == [0.0] * 400
    assert peak < long.nbytes / 3  # numpy's memory; torch keeps what is returned


def test_windows_heard_in_parts_are_heard_the_same_bit_for_bit():
    wave_T = tone(14, 1, 0)
    active_F = _active(wave_T)
    windows = grading_windows(active_F, len(wave_T), SETTINGS)
    windows_ST = take(wave_T, windows, 0, len(windows), 500) * np.float32(normalising_gain(wave_T, active_F, 500))
    grader = _grader(attention=True, merge="attention")

    whole = grader.grade(wave_T, active_F)
    parts = [grader.hear(part_ST) for part_ST in (windows_ST[: 2 * BATCH], windows_ST[2 * BATCH :])]
    probs_SG, embedding_SE, attention_S = (np.concatenate(part) for part in zip(*parts, strict=True))
    merged = merge_windows(
        grader.card,
        SegmentOutputs(probs_SG, embedding_SE, windows.activity_S, windows.start_s, attention_S=attention_S),
        seconds_of_playing(active_F),
    ).merged

    assert len(windows) > 2 * BATCH
    assert embedding_SE.dtype == np.float32
    assert np.ptp(attention_S) > 0
    assert merged.probs_G.tobytes() == whole.merged.probs_G.tobytes()
    assert probs_SG.tobytes() == whole.outputs.probs_SG.tobytes()


def test_the_stated_grade_is_cut_where_the_model_says():
    wave_T = tone(4, 1, 0)
    graded = _grader().grade(wave_T, _active(wave_T))
    score = graded.merged.score

    def stated(*cuts):
        again = _grader(cuts=cuts).grade(wave_T, _active(wave_T))
        assert again.merged.probs_G.tobytes() == graded.merged.probs_G.tobytes()
        return again.grade

    assert stated(score + 0.01, score + 0.02) == 0
    assert stated(score - 0.01, score + 0.02) == 1
    assert stated(score - 0.02, score - 0.01) == 2
    assert graded.grade == int((np.cumsum(graded.merged.probs_G)[:-1] < 0.5).sum())
