import dataclasses
import hashlib
import json
import threading

import pytest
import torch

from samplecnn import model_folder
from samplecnn.contract import MODEL_FILE, WEIGHTS_FILE
from samplecnn.errors import UserError
from samplecnn.model_folder import ModelCard, card_from_json, load, publish
from samplecnn.network import Plan
from samplecnn.segments import SegmentSettings

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(4, 4, 4, 4, 8))
CARD = ModelCard(
    plan=PLAN,
    settings=SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.5),
    grades=("C", "B", "A"),
    training_data="0123abcd",
    metrics={"accuracy": {"value": 0.7, "low": 0.5, "high": 0.9}},
)


def _weights(seed: int = 0) -> dict[str, torch.Tensor]:
    state = CARD.network().state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "deep" / "model")


def test_a_model_comes_back_as_it_was_published(place):
    published = publish(place, CARD, _weights())

    card, network = load(place)

    assert card == published
    assert card == dataclasses.replace(CARD, weights_sha256=card.weights_sha256)
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, _weights()[name])


def test_the_file_lists_the_grades_best_first_and_says_what_was_left_to_defaults(place, tmp_path):
    publish(place, CARD, _weights())

    told = json.loads((tmp_path / "deep" / "model" / MODEL_FILE).read_text())

    assert told["grades"] == ["A", "B", "C"]
    assert told["merge"] == {"rule": "mean", "parameters": {"silent_below": 0.2}}
    assert told["format"] == 1
    assert told["network"]["plan"]["pools"] == [5, 5, 2, 2]
    assert told["versions"]["torch"] == torch.__version__


def test_publishing_again_replaces_the_model_and_leaves_other_files_alone(place, tmp_path):
    folder = tmp_path / "deep" / "model"
    publish(place, CARD, _weights(0))
    (folder / "notes.txt").write_text("mine")

    publish(place, CARD, _weights(1))

    assert torch.equal(load(place)[1].head.weight, _weights(1)["head.weight"])
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_same_model_is_published_byte_for_byte(tmp_path):
    publish(str(tmp_path / "a"), CARD, _weights())
    publish(str(tmp_path / "b"), CARD, dict(reversed(_weights().items())))

    for name in (WEIGHTS_FILE, MODEL_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


CHANGES = {
    "grades": ("C", "A", "B"),
    "temperature": 1.5,
    "merge_parameters": {"silent_below": 0.3},
    "settings": SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.25),
    "weights_sha256": "0" * 64,
    "plan": dataclasses.replace(PLAN, last_kernel=3),
}


@pytest.mark.parametrize("field", CHANGES)
def test_whatever_changes_grades_changes_the_model_id(field):
    assert dataclasses.replace(CARD, **{field: CHANGES[field]}).model_id != CARD.model_id


def test_what_changes_no_grade_leaves_the_model_id():
    other = dataclasses.replace(CARD, metrics={}, versions={"torch": "9"}, training_data="x")

    assert other.model_id == CARD.model_id
    assert dataclasses.replace(CARD, merge_parameters={"silent_below": 0.2}).model_id == CARD.model_id


def test_a_crash_between_the_two_files_is_noticed_and_mended_by_publishing_again(place, monkeypatch):
    publish(place, CARD, _weights(0))
    store = model_folder.open_store(place)
    crashed = publish(place + "2", CARD, _weights(1))
    store.put(WEIGHTS_FILE, model_folder.open_store(place + "2").read(WEIGHTS_FILE).data)
    monkeypatch.setattr(model_folder, "READ_AGAIN_S", 0.0)

    with pytest.raises(UserError, match="does not belong to"):
        load(place)

    publish(place, CARD, _weights(1))
    assert load(place)[0] == crashed


def test_a_reader_never_sees_half_of_a_new_model(place):
    publish(place, CARD, _weights(0))
    known = {_weights(seed)["head.weight"].sum().item() for seed in (0, 1)}
    done = threading.Event()

    def republish():
        for turn in range(20):
            publish(place, CARD, _weights(turn % 2))
        done.set()

    writer = threading.Thread(target=republish)
    writer.start()
    while not done.is_set():
        assert load(place)[1].head.weight.sum().item() in known
    writer.join()


def _edit(change):
    def edited(folder):
        told = json.loads((folder / MODEL_FILE).read_text())
        change(told)
        (folder / MODEL_FILE).write_text(json.dumps(told))

    return edited


def _rewrite_weights(change):
    """Weights that the card vouches for, but that are not what its network needs."""

    def rewritten(folder):
        weights = _weights()
        change(weights)
        publish(str(folder), CARD, weights)

    return rewritten


def _not_safetensors(folder):
    data = b"PK\x03\x04 a pickle in a zip"
    (folder / WEIGHTS_FILE).write_bytes(data)
    card = dataclasses.replace(CARD, weights_sha256=hashlib.sha256(data).hexdigest())
    (folder / MODEL_FILE).write_bytes(card.to_json())


DAMAGES = {
    "no folder": (lambda folder: [p.unlink() for p in folder.iterdir() if p.is_file()], "no model.json there"),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "no model.safetensors there"),
    "no json": (
        lambda folder: (folder / MODEL_FILE).write_text("not { json"),
        "damaged or was not written by samplecnn",
    ),
    "no utf-8": (lambda folder: (folder / MODEL_FILE).write_bytes(b"\xff\xfe"), "damaged or was not written"),
    "a list": (lambda folder: (folder / MODEL_FILE).write_text("[1]"), "damaged or was not written"),
    "a field lost": (_edit(lambda told: told.pop("grades")), "damaged .*grades"),
    "a wrong type": (_edit(lambda told: told.update(temperature="hot")), "damaged .*hot"),
    "a bad rate": (_edit(lambda told: told.update(sample_rate=-1)), "damaged .*sample-rate"),
    "an unknown block": (_edit(lambda told: told["network"].update(block="magic")), "'magic' is none of plain"),
    "an unknown merge parameter": (_edit(lambda told: told["merge"]["parameters"].update(x=1)), "damaged"),
    "an impossible plan": (_edit(lambda told: told["network"]["plan"].update(stride=10**9)), "damaged"),
    "a later format": (_edit(lambda told: told.update(format=2)), "has format 2, this version reads 1: update"),
    "other rules": (_edit(lambda told: told["activity"].update(frame_s=0.1)), "other rules of silence and level"),
    "grades swapped by hand": (_edit(lambda told: told.update(grades=["B", "A", "C"])), "changed after it was written"),
    "other weights": (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"12345678"), "does not belong to"),
    "no safetensors": (_not_safetensors, "is no safetensors file"),
    "a tensor lost": (_rewrite_weights(lambda w: w.pop("head.bias")), r"does not fit .*head\.bias"),
    "a tensor more": (_rewrite_weights(lambda w: w.update(extra=torch.zeros(1))), "its network lacks .extra"),
    "a wrong shape": (
        _rewrite_weights(lambda w: w.update({"head.bias": torch.zeros(7)})),
        r"does not fit .*head\.bias",
    ),
    "a wrong type of weight": (
        _rewrite_weights(lambda w: w.update({"head.bias": torch.zeros(3).half()})),
        "does not fit",
    ),
    "NaN": (_rewrite_weights(lambda w: w["first.bias"].fill_(float("nan"))), r"no numbers \(at first\.bias\)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_model_is_refused_in_one_line(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "READ_AGAIN_S", 0.0)
    folder = tmp_path / "model"
    publish(str(folder), CARD, _weights())
    damaged, message = DAMAGES[damage]
    damaged(folder)

    with pytest.raises(UserError, match=message) as refused:
        load(str(folder))

    assert str(refused.value).startswith(f"--model {folder}: ")
    assert "\n" not in str(refused.value)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="train a model into it first"):
        load(str(tmp_path / "none"))


def test_a_card_that_contradicts_itself_is_a_defect():
    with pytest.raises(ValueError, match="network for 500 samples, not 1000"):
        dataclasses.replace(CARD, settings=SegmentSettings(sample_rate=500, segment_s=2.0, hop_s=1.0))
    with pytest.raises(ValueError, match="two or more"):
        dataclasses.replace(CARD, grades=("A", "A"))
    with pytest.raises(ValueError, match="above 0"):
        dataclasses.replace(CARD, temperature=float("nan"))


def test_metrics_that_are_no_numbers_are_found_before_anything_is_written(place):
    with pytest.raises(ValueError, match="JSON"):
        publish(place, dataclasses.replace(CARD, metrics={"kappa": float("nan")}), _weights())
    with pytest.raises(UserError, match="no model"):
        load(place)


def test_the_card_round_trips_through_its_file_with_names_of_any_script():
    card = dataclasses.replace(CARD, grades=("なし", "très bien", "★"), temperature=0.1 + 0.2, weights_sha256="ab")

    again = card_from_json(card.to_json(), "m")

    assert again.grades == card.grades
    assert again.model_id == card.model_id
    assert again.to_json() == card.to_json()
