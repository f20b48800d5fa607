from dataclasses import replace

import numpy as np
import pytest
import torch
from pyarrow import fs

from samplecnn.architecture import Plan
from samplecnn.batches import read_recordings
from samplecnn.calibration import calibrate, merged, stated_by_shares
from samplecnn.cross_validation import HeldOut, hold_out, listen
from samplecnn.folds import splits
from samplecnn.labels import Label
from samplecnn.merge import Attended, Mean
from samplecnn.metrics import Metrics, evaluate
from samplecnn.network import SampleCNN
from samplecnn.network.joined import build
from samplecnn.recipe import FitSettings
from tests.fixtures.shards import SETTINGS, tone, write_shard

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))
FIT = FitSettings(epochs=8, crops=3, batch_size=12, learning_rate=1e-2, patience=8)
HEAD = "cross-entropy"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Nine performers, told apart by their pitch, with grades dealt to them: five recordings each."""
    folder = tmp_path_factory.mktemp("performers")
    dealt = np.random.default_rng(0).permutation([0, 1, 2] * 3).tolist()
    waves, labels = {}, {}
    for performer, grade in enumerate(dealt):
        for take in range(5):
            name = f"{performer} {take}.wav"
            waves[name] = tone(3.0, performer / 4, seed=10 * performer + take)
            labels[name] = [Label(name, grade, f"performer {performer}")]
    return read_recordings(
        fs.LocalFileSystem(), [write_shard(folder / "shard.parquet", waves)], labels, SETTINGS, str(folder)
    )


def cross_validated(recordings) -> tuple[Metrics, Metrics]:
    """As the network says it, and calibrated."""
    parted, heard = splits(recordings.grade_R, [list(recordings.groups)], 3, seed=0), {}
    for split in parted:
        heard |= held_out(recordings, split.learn_R, split.held_R).heard
    heard_R = [heard[name] for name in recordings.names]
    said_RG = np.stack([merged_at.probs_G for merged_at in merged(heard_R, HEAD, 1.0)])
    stated_R = stated_by_shares(said_RG, recordings.grade_R, parted)
    calibrated = calibrate(heard_R, recordings.grade_R, [list(recordings.groups)], parted, 3, HEAD)

    def scored(stated_R, probs_RG):
        return evaluate(recordings.grade_R, stated_R, probs_RG, [list(recordings.groups)], seed=0)

    return scored(stated_R, said_RG), scored(calibrated.grade_R, calibrated.probs_RG)


def held_out(recordings, learn_R, held_R) -> HeldOut:
    network = SampleCNN(PLAN, 3)
    rows = (np.flatnonzero(learn_R), np.flatnonzero(held_R))
    return hold_out(network, recordings, *rows, FIT, head=HEAD, seed=0, device=CPU)


def test_grades_dealt_to_performers_come_out_at_chance_unless_a_performer_is_on_both_sides(recordings):
    apart, apart_calibrated = cross_validated(recordings)
    mixed, mixed_calibrated = cross_validated(replace(recordings, groups=recordings.names))

    for at_chance in (apart, apart_calibrated):
        assert at_chance.kappa.value < 0.3
        assert at_chance.kappa.low < 0
        assert at_chance.p_value > 0.05
    assert apart_calibrated.log_loss.value == pytest.approx(np.log(3), abs=0.2)
    assert mixed.kappa.value > 0.7
    assert mixed.p_value < 0.01
    assert mixed_calibrated.log_loss.value < 0.7


def test_where_nothing_is_held_back_all_epochs_are_run_and_those_learnt_from_are_heard_too_if_asked(recordings):
    fit, rows = replace(FIT, epochs=3, train_on_all=True), (np.arange(0, 30), np.arange(30, 45))
    done = hold_out(SampleCNN(PLAN, 3), recordings, *rows, fit, head=HEAD, seed=0, device=CPU, beside=[0, 7])
    assert done.best_epoch == 3
    assert list(done.beside) == [recordings.names[0], recordings.names[7]]
    assert list(done.heard) == list(recordings.names[30:])
    assert "no recording was held back" in done.merging.why
    before = hold_out(SampleCNN(PLAN, 3), recordings, *rows, replace(fit, epochs=1), head=HEAD, seed=0, device=CPU)
    assert before.beside == {}
    assert before.train_loss != done.train_loss


def test_a_network_that_learns_from_recordings_offers_its_attention_as_a_rule(recordings):
    network = build("samplecnn", PLAN, 500, 3, attention=True)
    rows = (np.arange(0, 30), np.arange(30, 45))
    fit = replace(FIT, learn_from="recordings", epochs=2)
    done = hold_out(network, recordings, *rows, fit, head=HEAD, seed=0, device=CPU)

    assert set(done.merging.rules) == {"mean", "attention"}
    for heard in done.heard.values():
        assert len(heard.attention_S) == len(heard.activity_S)
        assert np.ptp(heard.attention_S) > 0
        attended = replace(heard, rule=Attended()).merged(HEAD, 1.0)
        assert attended.probs_G.tolist() != replace(heard, rule=Mean()).merged(HEAD, 1.0).probs_G.tolist()


def test_what_is_held_out_has_no_say_in_what_is_said_of_it(recordings):
    few = recordings.subset(range(0, 45, 3))
    learn_R = np.arange(15) < 12
    other = replace(few, grade_R=np.where(learn_R, few.grade_R, (few.grade_R + 1) % 3))
    one, two = (held_out(chosen, learn_R, ~learn_R) for chosen in (few, other))
    assert list(one.heard) == list(few.names[12:])
    for name, heard in one.heard.items():
        assert np.array_equal(heard.outputs_SO, two.heard[name].outputs_SO)


def test_a_network_that_gives_no_numbers_says_nothing(recordings):
    network = SampleCNN(PLAN, 3).eval()
    with torch.no_grad():
        network.head.weight.fill_(torch.nan)
    assert listen(network, recordings, 0, CPU) is None
