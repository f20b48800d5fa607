"""A training whose workers die, whose disk is full or whose checkpoints were cut off ends in the model of an
undisturbed one: each draw is a function of seed, epoch and recording, and a checkpoint holds all else. That holds bit
for bit on one kind of CPU with as many workers and threads; with others, sums are taken in another order."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow.fs import LocalFileSystem

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings
from samplecnn.errors import JobError
from samplecnn.labels import LabelSettings
from samplecnn.pipelines import fitting
from samplecnn.pipelines import train as training
from samplecnn.pipelines.prepare import prepare
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SEGMENTS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FIT = FitSettings(epochs=4, crops=4, batch_size=16)
LIST = "checkpoint_manager_snapshot.json"  # Ray's, of a run's checkpoints
EPOCHS = [f"epoch {number}/4" for number in range(1, 5)]
STEPS = 2  # an epoch: 9 recordings to learn from, 4 crops of each, 16 a batch


@dataclass(frozen=True)
class Place:
    """What a training is given, and what it wrote."""

    segments: str
    labels: str
    model: Path

    def train(self, workers: int = 1) -> str:
        settings = LabelSettings(), NetworkSettings(), FIT
        return training.train(self.segments, self.labels, str(self.model), *settings, seed=0, workers=workers)

    def at(self, model: Path) -> "Place":
        return Place(self.segments, self.labels, model)

    def learnt(self) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        card, network = model_folder.load(str(self.model))
        return card.metrics["history"], network.state_dict()


def assert_same(one: Place, other: Place) -> None:
    (history, weights), (expected_history, expected) = one.learnt(), other.learnt()
    assert history == expected_history
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, weights[name]), name
    assert not Path(f"{one.model}.checkpoints").exists()


@pytest.fixture(scope="module")
def undisturbed(recordings, one_ray, tmp_path_factory) -> Place:
    root = tmp_path_factory.mktemp("faults")
    prepare(str(recordings[0]), str(root / "segments"), SEGMENTS, workers=1)
    place = Place(str(root / "segments"), str(recordings[1]), root / "model")
    place.train()
    return place


@pytest.fixture
def place(undisturbed, tmp_path) -> Place:
    return undisturbed.at(tmp_path / "model")


def dying(moment: str, mark: Path, rank: int = 0) -> Callable[[dict[str, Any]], None]:
    """The worker of a training that kills itself, as SIGKILL does, at this moment: once, `mark` says that it did.

    moment: "start"; "step N", before the N-th one; "saving", with half of the second checkpoint on disk; "uploading",
    with it half on its way to the others; "end", after the last epoch's checkpoint.
    """

    def worker(config: dict[str, Any]) -> None:
        import os
        import signal

        import ray.train
        import torch
        from ray.train.v2._internal.execution import storage

        from samplecnn.pipelines import train

        def die(*_: Any, **__: Any) -> None:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)

        def nth(number: int, real: Any, at: Any) -> Any:
            calls = 0

            def called(*args: Any, **flags: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    at(*args, **flags)
                return real(*args, **flags)

            return called

        def half_saved(state: Any, path: str) -> None:
            with open(path, "wb") as file:
                file.write(b"PK half a checkpoint")
            die()

        def half_uploaded(source: str, destination: str, **filesystem: Any) -> None:
            os.makedirs(destination, exist_ok=True)
            half_saved(None, os.path.join(destination, "state.pt"))

        if not os.path.exists(mark) and ray.train.get_context().get_world_rank() == rank:
            name, _, number = moment.partition(" ")
            if name == "start":
                die()
            elif name == "step":
                torch.autograd.backward = nth(int(number), torch.autograd.backward, die)
            elif name == "saving":
                torch.save = nth(2, torch.save, half_saved)
            elif name == "uploading":
                storage._pyarrow_fs_copy_files = nth(2, storage._pyarrow_fs_copy_files, half_uploaded)
            else:
                train.merging_after = die  # type: ignore[assignment]
        train._worker(config)

    return worker


MOMENTS = ["start", f"step {STEPS + 2}", "saving", "uploading", f"step {3 * STEPS + 2}", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_is_killed_leaves_no_trace_in_the_model(moment, undisturbed, place, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_worker", dying(moment, tmp_path / "died"))
    place.train()
    assert (tmp_path / "died").exists()
    assert_same(place, undisturbed)


@pytest.mark.slow
def test_one_of_two_workers_that_is_killed_leaves_no_trace_in_the_model(place, tmp_path, monkeypatch):
    whole = place.at(tmp_path / "whole")
    whole.train(workers=2)
    monkeypatch.setattr(training, "_worker", dying(f"step {STEPS + 2}", tmp_path / "died", rank=1))
    place.train(workers=2)
    assert (tmp_path / "died").exists()
    assert_same(place, whole)


def giving_up(step: int) -> Callable[[dict[str, Any]], None]:
    """A worker that ends for good at this step."""

    def worker(config: dict[str, Any]) -> None:
        import torch

        from samplecnn.errors import JobError
        from samplecnn.pipelines import train

        steps = 0
        backward = torch.autograd.backward

        def counted(*args: Any, **flags: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                raise JobError("enough")  # which all workers would say: it is not tried again
            backward(*args, **flags)

        torch.autograd.backward = counted
        train._worker(config)

    return worker


@pytest.fixture(scope="module")
def stopped(undisturbed, tmp_path_factory) -> Path:
    """The checkpoints of a training that gave up in its third epoch."""
    place = undisturbed.at(tmp_path_factory.mktemp("stopped") / "model")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "_worker", giving_up(2 * STEPS + 2))
        with pytest.raises(JobError, match="enough"):
            place.train()
    return Path(f"{place.model}.checkpoints")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _each_checkpoint(change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run: [change(path) for path in run.glob("checkpoint_*/state.pt")] and None


CUTS = {
    "no list": lambda run: (run / LIST).write_bytes(b""),
    "half a list": lambda run: _half(run / LIST),
    "half a checkpoint": _each_checkpoint(_half),
    "an empty checkpoint": _each_checkpoint(lambda path: path.write_bytes(b"") and None),
    "no checkpoint": _each_checkpoint(Path.unlink),
    "no folder of a checkpoint": lambda run: [shutil.rmtree(path.parent) for path in run.glob("checkpoint_*/state.pt")],
}


@pytest.mark.parametrize("cut", CUTS)
def test_half_a_checkpoint_is_known_for_what_it_is(cut, stopped, tmp_path, caplog):
    shutil.copytree(stopped, tmp_path / "checkpoints")
    (run,) = (tmp_path / "checkpoints").iterdir()
    fitting._drop_cut_off(LocalFileSystem(), str(run))
    assert run.exists()
    CUTS[cut](run)
    fitting._drop_cut_off(LocalFileSystem(), str(run))
    assert not run.exists()
    assert "the last checkpoint was cut off" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("cut", "told"), [(None, ["epoch 3/4", "epoch 4/4"]), ("half a list", ["cut off", *EPOCHS])])
def test_training_goes_on_from_whole_checkpoints_and_anew_from_half_of_one(
    cut, told, stopped, undisturbed, place, caplog
):
    shutil.copytree(stopped, f"{place.model}.checkpoints")
    if cut:
        (run,) = Path(f"{place.model}.checkpoints").iterdir()
        CUTS[cut](run)
    with caplog.at_level("INFO"):
        place.train()
    assert re.findall(r"cut off|epoch \d/\d", caplog.text) == told
    assert_same(place, undisturbed)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_training_in_one_line_and_with_room_it_goes_on(undisturbed, place, disk_of):
    # Of checkpoints of 10 MB two are kept while a third is written, beside what cut-off tries may have left: 15 MB.
    disk = disk_of(60_000_000)
    full = place.at(disk / "model")
    (disk / "other").write_bytes(b"x" * 45_000_000)
    with pytest.raises(JobError, match=r"a disk is full, .*: make room and run the same command again"):
        full.train()
    assert not os.path.exists(full.model)
    (disk / "other").unlink()
    full.train()
    assert_same(full, undisturbed)
