from pathlib import Path

import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.contract import STARTER_FILE, STARTER_WEIGHTS
from samplecnn.errors import UserError
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.pretrain_unlabelled import pretrain_unlabelled
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings, UnlabelledSettings
from samplecnn.segments import SegmentSettings
from samplecnn.starter import MEMBER_NAMES, load_starter
from tests.fixtures.jobs import kill_job_when, run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SEGMENTS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FEW = UnlabelledSettings(epochs=3, crops=2, batch_size=8)
FLAGS = ("--epochs", 3, "--crops", 2, "--batch-size", 8)


@pytest.fixture(scope="module")
def segments(recordings, one_ray, tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("pretrain_unlabelled") / "segments")
    prepare(str(recordings[0]), place, SEGMENTS)
    return place


@pytest.fixture(scope="module")
def starter(segments, tmp_path_factory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("starter") / "starter"
    ended = run_job("pretrain_unlabelled", "--segments", segments, "--starter", place, *FLAGS)
    assert ended.returncode == 0, ended.stderr
    return place, ended.stdout


def test_a_starter_comes_out_that_training_starts_from(starter, segments, recordings, tmp_path):
    place, said = starter
    assert said.startswith(f"{place / STARTER_FILE}: 12 recordings heard, best after epoch ")
    assert "of the pairs that were held back are told right" in said
    card = load_starter(str(place)).card
    assert (card.sample_rate, card.plan) == (100, plan_for(100))
    assert set(card.directions) == {"samplecnn", "rhythm", "joined"}
    assert card.taught["recordings"] == 12
    assert not (place.parent / "starter.checkpoints").exists()

    model, fit = str(tmp_path / "model"), FitSettings(init=str(place), epochs=1, crops=1, batch_size=8)
    train(segments, str(recordings[1]), model, LabelSettings(), NetworkSettings(), fit, seed=0)
    assert model_folder.load(model)[0].metrics["starter"] == load_starter(str(place)).id


def test_the_same_command_again_does_nothing_and_other_settings_something(starter, segments):
    place, _ = starter
    before = (place / STARTER_FILE).read_bytes()
    assert pretrain_unlabelled(segments, str(place), FEW, seed=0).endswith("nothing to do")
    assert (place / STARTER_FILE).read_bytes() == before


@pytest.mark.slow
def test_killed_after_an_epoch_the_same_command_ends_in_the_same_starter(starter, segments, tmp_path):
    args = ("pretrain_unlabelled", "--segments", segments, "--starter", tmp_path / "starter", *FLAGS)
    checkpoints = tmp_path / "starter.checkpoints"
    kill_job_when(lambda: any(checkpoints.glob("*/checkpoint_*/state.pt")), *args)
    ended = run_job(*args)
    assert ended.returncode == 0, ended.stderr
    again, whole = ((place / STARTER_WEIGHTS).read_bytes() for place in (tmp_path / "starter", starter[0]))
    assert again == whole


def test_several_rhythm_branches_learn_without_labels_and_training_starts_from_them(segments, recordings, tmp_path):
    place, model = str(tmp_path / "starter"), str(tmp_path / "model")
    few = UnlabelledSettings(network="rhythms", epochs=1, crops=1, batch_size=8)
    pretrain_unlabelled(segments, place, few, seed=0)
    card = load_starter(place).card
    assert set(card.directions) == set(MEMBER_NAMES)
    assert card.taught["network"] == "rhythms"

    network, fit = NetworkSettings(network="rhythms"), FitSettings(init=place, epochs=1, crops=1, batch_size=8)
    train(segments, str(recordings[1]), model, LabelSettings(), network, fit, seed=0)
    assert model_folder.load(model)[0].metrics["starter"] == load_starter(place).id


def test_too_few_recordings_are_refused(recordings, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    first = sorted(Path(recordings[0]).iterdir())[0]
    (one / first.name).write_bytes(first.read_bytes())
    prepare(str(one), str(tmp_path / "segments"), SEGMENTS)
    with pytest.raises(UserError, match="1 recordings: at least 10 are needed"):
        pretrain_unlabelled(str(tmp_path / "segments"), str(tmp_path / "starter"), FEW, seed=0)
