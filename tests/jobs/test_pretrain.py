import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.contract import PERFORMANCES_FILE, STARTER_FILE, STARTER_WEIGHTS
from samplecnn.errors import UserError
from samplecnn.labels import LabelSettings
from samplecnn.performances.drawn import TARGETS
from samplecnn.pipelines import pretrain as job
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.pretrain import pretrain
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings, PretrainSettings
from samplecnn.segments import SegmentSettings
from samplecnn.starter import load_starter
from tests.fixtures.jobs import kill_job_when, run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
# One second at 100 Hz: the paths are those of any length, and both branches are taught in moments.
SEGMENTS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FEW = PretrainSettings(count=40, performers=20, epochs=1, crops=1, batch_size=16)
FLAGS = ("--sample-rate", 100, "--segment-s", 1, "--hop-s", 1, "--count", 40, "--performers", 20)
FLAGS += ("--epochs", 1, "--crops", 1, "--batch-size", 16)


@pytest.fixture(scope="module")
def places(one_ray, tmp_path_factory) -> tuple[Path, Path, str]:
    """(performances, starter, the closing line)."""
    root = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "A_SHARD", 20)
        said = _pretrain(root / "performances", root / "starter")
    return root / "performances", root / "starter", said


def _pretrain(performances: Path, starter: Path, settings: PretrainSettings = FEW, seed: int = 0) -> str:
    return pretrain(str(performances), str(starter), SEGMENTS, settings, seed=seed)


def test_shards_and_a_starter_come_out(places):
    performances, starter, said = places
    shards = sorted((performances / "data").glob("*.parquet"))
    tables = [pq.read_table(shard) for shard in shards]
    assert [table.num_rows for table in tables] == [20, 20]
    assert set(TARGETS) < set(tables[0].column_names)
    assert said.startswith(f"{starter / STARTER_FILE}: 40 performances heard; ")

    card = load_starter(str(starter)).card
    assert (card.sample_rate, card.plan) == (100, plan_for(100))
    assert set(card.directions) == {"samplecnn", "rhythm", "joined"}
    assert card.performances == {"count": 40, "performers": 20, "seed": 0, "sample_rate": 100}
    assert card.taught["epochs"] == 1
    assert all(np.isfinite(list(told.values())).all() for told in card.explained.values())


def test_the_same_command_performs_nothing_again_and_ends_in_the_same_starter(places, tmp_path, monkeypatch):
    performances, starter, _ = places
    monkeypatch.setattr(job, "A_SHARD", 20)
    before = {path: path.stat().st_mtime_ns for path in performances.rglob("*") if path.is_file()}
    _pretrain(performances, tmp_path / "again")
    assert {path: path.stat().st_mtime_ns for path in performances.rglob("*") if path.is_file()} == before
    for name in (STARTER_FILE, STARTER_WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (starter / name).read_bytes()


def test_other_performances_are_refused_in_one_line(places, tmp_path):
    performances, _, _ = places
    with pytest.raises(UserError) as refused:
        _pretrain(performances, tmp_path / "starter", seed=1)
    assert str(refused.value).startswith(f"--performances {performances}: holds others")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "starter").exists()


def test_training_starts_from_it(places, recordings, tmp_path):
    segments = str(tmp_path / "segments")
    prepare(str(recordings[0]), segments, SEGMENTS)
    fit = FitSettings(init=str(places[1]), epochs=1, crops=2, batch_size=16)
    args = (segments, str(recordings[1]), str(tmp_path / "model"), LabelSettings(), NetworkSettings())
    train(*args, fit, seed=0)
    card, _ = model_folder.load(str(tmp_path / "model"))
    assert card.metrics["starter"] == load_starter(str(places[1])).id
    with pytest.raises(UserError, match=r"--init .*no starter there"):
        train(*args, FitSettings(init=str(tmp_path / "none"), epochs=1), seed=0)


@pytest.mark.slow
def test_killed_while_it_performs_the_same_command_ends_in_the_same_starter(places, tmp_path):
    args = ("pretrain", "--performances", tmp_path / "performances", "--starter", tmp_path / "starter", *FLAGS)
    kill_job_when((tmp_path / "performances" / PERFORMANCES_FILE).exists, *args)
    ended = run_job(*args)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "starter" / STARTER_FILE).read_text()) == json.loads(
        (places[1] / STARTER_FILE).read_text()
    )
    assert (tmp_path / "starter" / STARTER_WEIGHTS).read_bytes() == (places[1] / STARTER_WEIGHTS).read_bytes()
