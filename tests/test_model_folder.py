import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
import struct
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samplecnn.architecture import NETWORK_NAMES, Plan
from samplecnn.contract import CURRENT, MODEL_FILE, WEIGHTS_FILE
from samplecnn.errors import UserError
from samplecnn.likeness import fit_likeness
from samplecnn.marks import MarkMap
from samplecnn.model_folder import ModelCard, card_from_json, load, publish, trained_on, use
from samplecnn.network import SampleCNN
from samplecnn.network.blocks import BLOCKS
from samplecnn.ordinal import HEADS
from samplecnn.segments import SegmentSettings
from samplecnn.sound import MEASURES
from samplecnn.store import LocalStore, open_store
from samplecnn.trained_on import TrainedOn
from tests.fixtures.gcs import gcs_store
from tests.fixtures.values import json_values

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(4, 4, 4, 4, 8))
CARD = ModelCard(
    plan=PLAN,
    settings=SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.5),
    grades=("C", "B", "A"),
    network="samplecnn",
    training_data="0123abcd",
    metrics={"accuracy": {"value": 0.7, "low": 0.5, "high": 0.9}},
)


def _weights(seed: int = 0) -> dict[str, torch.Tensor]:
    state = CARD.build().state_dict()
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


def test_what_a_model_was_trained_on_lies_beside_it_and_may_be_missing(place):
    trained = TrainedOn.of([("a.wav", "v1")], "salt")
    card = publish(place, CARD, _weights(), trained)
    assert trained_on(place) == trained_on(f"{place}/{card.model_id}") == trained
    publish(place, CARD, _weights(seed=1))
    assert trained_on(place) is None


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_model_of_any_block_and_head_comes_back(block, head, place):
    plan = dataclasses.replace(PLAN, block=block, multi_level=True, se_alpha=0.5)
    card = dataclasses.replace(CARD, plan=plan, head=head)
    network = SampleCNN(plan, 3, head, seed=4).eval()
    waveform_BT = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))

    publish(place, card, network.state_dict())

    again, loaded = load(place)
    assert (again.plan, again.head) == (plan, head)
    assert torch.equal(loaded(waveform_BT), network(waveform_BT))


@pytest.mark.parametrize(("name", "attention"), [*((name, False) for name in NETWORK_NAMES), ("joined", True)])
def test_a_model_of_any_network_comes_back_with_its_calibration(name, attention, place):
    merge = "attention" if attention else "mean"
    card = dataclasses.replace(
        CARD, network=name, attention=attention, merge=merge, cuts=(0.4, 0.55), least_confidence=0.45
    )
    network = card.build().eval()
    waveform_BT = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))

    publish(place, card, network.state_dict())

    again, loaded = load(place)
    assert (again.network, again.cuts, again.least_confidence) == (name, (0.4, 0.55), 0.45)
    assert (again.merge, loaded.attention is not None) == (merge, attention)
    assert torch.equal(loaded(waveform_BT), network(waveform_BT))
    assert again.model_id != dataclasses.replace(again, cuts=()).model_id


def test_a_model_that_knows_playing_from_noise_comes_back_and_is_another(place, tmp_path):
    likeness = fit_likeness(np.random.default_rng(0).normal(size=(12, len(MEASURES))), [str(i) for i in range(12)])
    card = publish(place, dataclasses.replace(CARD, likeness=likeness), _weights())

    assert load(place)[0].likeness == likeness
    assert card.model_id != dataclasses.replace(card, likeness=None).model_id
    file = tmp_path / "deep" / "model" / card.model_id / MODEL_FILE
    told = json.loads(file.read_text())
    assert told["format"] == 7
    told["likeness"]["measures"][0] = "magic"
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match="other measures of sound"):
        load(place)


@pytest.mark.parametrize("knows_noise", [False, True])
def test_a_model_that_tells_marks_comes_back_and_is_another(place, tmp_path, knows_noise):
    measures_RM = np.random.default_rng(0).normal(size=(12, len(MEASURES)))
    likeness = fit_likeness(measures_RM, [str(i) for i in range(12)]) if knows_noise else None
    marks = MarkMap(offset=40.0, slope=50.0, half=9.5, least=0.0, most=100.0)
    card = publish(place, dataclasses.replace(CARD, likeness=likeness, marks=marks), _weights())

    again, _ = load(place)
    assert (again.marks, again.likeness) == (marks, likeness)
    assert card.model_id != dataclasses.replace(card, marks=None).model_id
    file = tmp_path / "deep" / "model" / card.model_id / MODEL_FILE
    told = json.loads(file.read_text())
    assert told["format"] == 8
    told["marks"]["half"] = -1
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match="damaged"):
        load(place)


def test_the_file_lists_the_grades_best_first_and_says_what_was_left_to_defaults(place, tmp_path):
    card = publish(place, CARD, _weights())

    told = json.loads((tmp_path / "deep" / "model" / card.model_id / MODEL_FILE).read_text())

    assert told["grades"] == ["A", "B", "C"]
    assert told["merge"] == {"rule": "mean", "parameters": {"silent_below": 0.2}}
    assert told["format"] == 6  # without a likeness, as earlier versions wrote it
    assert told["network"] == {
        "name": "samplecnn",
        "attention": False,
        "head": "cross-entropy",
        "plan": {
            "segment_samples": 500,
            "stride": 5,
            "pools": [5, 5, 2, 2],
            "widths": [4, 4, 4, 4, 8],
            "filter_length": 3,
            "last_kernel": 1,
            "block": "plain",
            "se_alpha": 1 / 16,
            "multi_level": False,
        },
    }
    assert told["versions"]["torch"] == torch.__version__


def test_a_new_model_follows_the_old_one_and_leaves_it_and_other_files_alone(place, tmp_path):
    folder = tmp_path / "deep" / "model"
    first = publish(place, CARD, _weights(0))
    (folder / "notes.txt").write_text("mine")

    second = publish(place, CARD, _weights(1))

    assert (folder / CURRENT).read_text() == f"{second.model_id}\n"
    assert load(place)[0] == second
    assert load(f"{place}/{first.model_id}")[0] == first
    assert (folder / "notes.txt").read_text() == "mine"


def test_publishing_the_same_model_twice_writes_nothing(place, tmp_path):
    publish(place, CARD, _weights())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}

    publish(place, CARD, _weights())

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_the_same_weights_learnt_under_other_settings_carry_the_last_card(place):
    publish(place, CARD, _weights())
    publish(place, dataclasses.replace(CARD, training_data="of more epochs"), _weights())
    assert load(place)[0].training_data == "of more epochs"


def test_an_earlier_model_can_be_used_again(place):
    first, second = publish(place, CARD, _weights(0)), publish(place, CARD, _weights(1))

    use(place, first.model_id)

    assert load(place)[0] == first
    for wrong, words in (("0" * 16, "no model.json there"), ("../" + second.model_id, "is no model id")):
        with pytest.raises(UserError, match=words):
            use(place, wrong)
    assert load(place)[0] == first


def test_a_copied_folder_of_two_files_is_a_model(place, tmp_path):
    card = publish(place, CARD, _weights())
    shutil.copytree(f"{place}/{card.model_id}", tmp_path / "copy")
    assert load(str(tmp_path / "copy"))[0] == card


@pytest.mark.parametrize("written", range(4))
def test_killed_between_any_two_writes_the_old_model_is_still_the_current_one(place, written, monkeypatch):
    class Kill(BaseException):
        pass

    old = publish(place, CARD, _weights(0))
    calls = []

    def dying(real):
        def write(self, *args):
            if len(calls) == written:
                raise Kill
            calls.append(args[0])
            return real(self, *args)

        return write

    monkeypatch.setattr(LocalStore, "create", dying(LocalStore.create))
    monkeypatch.setattr(LocalStore, "replace", dying(LocalStore.replace))

    if written < 3:
        with pytest.raises(Kill):
            publish(place, CARD, _weights(1))
        assert load(place)[0] == old
        monkeypatch.undo()
    new = publish(place, CARD, _weights(1))
    assert load(place)[0] == new


def test_of_two_that_publish_at_once_the_last_one_wins(place, monkeypatch, caplog):
    publish(place, CARD, _weights(0))
    real = LocalStore.replace
    meanwhile = [1]

    def replace(self, name, data, version):
        if meanwhile:
            publish(place, CARD, _weights(meanwhile.pop()))  # another training gets in at the last moment
        return real(self, name, data, version)

    monkeypatch.setattr(LocalStore, "replace", replace)
    last = publish(place, CARD, _weights(2))

    assert load(place)[0] == last
    assert "another model was published at this moment" in caplog.text


def test_a_bucket_holds_models_as_a_folder_does(gate, bucket, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    place = f"gs://{bucket}/school/model/"
    first, second = publish(place, CARD, _weights(0)), publish(place, CARD, _weights(1))
    gate.clear()
    assert load(place)[0] == second
    assert len(gate.requests()) == 3
    use(place, first.model_id)
    assert load(place)[0] == first
    assert load(f"{place}{second.model_id}")[0] == second
    assert [entry.name for entry in gcs_store(gate, bucket, "school/model").list()] == sorted(
        [CURRENT, *(f"{card.model_id}/{name}" for card in (first, second) for name in (MODEL_FILE, WEIGHTS_FILE))]
    )


def test_the_same_model_is_published_byte_for_byte(tmp_path):
    card = publish(str(tmp_path / "a"), CARD, _weights())
    publish(str(tmp_path / "b"), CARD, dict(reversed(_weights().items())))

    for name in (CURRENT, f"{card.model_id}/{WEIGHTS_FILE}", f"{card.model_id}/{MODEL_FILE}"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


CHANGES = {
    "grades": ("C", "A", "B"),
    "temperature": 1.5,
    "least_confidence": 0.4,
    "merge_parameters": {"silent_below": 0.3},
    "settings": SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.25),
    "weights_sha256": "0" * 64,
    "plan": dataclasses.replace(PLAN, last_kernel=3),
    "head": "corn",
    "attention": True,
}


@pytest.mark.parametrize("field", CHANGES)
def test_whatever_changes_grades_changes_the_model_id(field):
    assert dataclasses.replace(CARD, **{field: CHANGES[field]}).model_id != CARD.model_id


def test_what_changes_no_grade_leaves_the_model_id():
    other = dataclasses.replace(CARD, metrics={}, versions={"torch": "9"}, training_data="x")

    assert other.model_id == CARD.model_id
    assert dataclasses.replace(CARD, merge_parameters={"silent_below": 0.2}).model_id == CARD.model_id


def test_damaged_files_are_mended_by_publishing_again(place):
    card = publish(place, CARD, _weights())
    store = open_store(place)
    for name in (WEIGHTS_FILE, MODEL_FILE):
        store.put(f"{card.model_id}/{name}", b"half of what")
        with pytest.raises(UserError):
            load(place)
        publish(place, CARD, _weights())
        assert load(place)[0] == card


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


def _forge(**network):
    """A card for another network, with the id that belongs to it: whoever edits model.json can compute that too."""

    def forged(folder):
        told = json.loads((folder / MODEL_FILE).read_text())
        head = network.pop("head", CARD.head)
        plan = dataclasses.replace(PLAN, **network)
        card = dataclasses.replace(CARD, plan=plan, head=head, weights_sha256=told["weights_sha256"])
        (folder / MODEL_FILE).write_bytes(card.to_json())

    return forged


def _forge_network(folder):
    told = json.loads((folder / MODEL_FILE).read_text())
    card = dataclasses.replace(CARD, network="rhythm", weights_sha256=told["weights_sha256"])
    (folder / MODEL_FILE).write_bytes(card.to_json())


def _rewrite_weights(change):
    """Weights that the card vouches for, but that are not what its network needs."""

    def rewritten(folder):
        weights = _weights()
        change(weights)
        card = publish(str(folder / "other"), CARD, weights)
        for name in (WEIGHTS_FILE, MODEL_FILE):
            shutil.copy(folder / "other" / card.model_id / name, folder / name)

    return rewritten


def _forge_number(folder):
    """A type of number that safetensors knows and torch does not."""
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}}).encode()
    _vouch_for(folder, struct.pack("<Q", len(header)) + header + b"1234")


def _claims_a_terabyte(folder):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
    _vouch_for(folder, struct.pack("<Q", len(header)) + header + b"1234")


def _not_safetensors(folder):
    _vouch_for(folder, b"PK\x03\x04 a pickle in a zip")


def _folder_for_a_card(folder):
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).mkdir()


def _link_to_a_device(folder):
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).symlink_to("/dev/zero")


def _link_to_itself(folder):
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).symlink_to(MODEL_FILE)


def _vouch_for(folder, data):
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
    "an unknown block": (_edit(lambda told: told["network"]["plan"].update(block="magic")), "'magic' is none of plain"),
    "an unknown head": (_edit(lambda told: told["network"].update(head="magic")), "'magic' is none of cross-entropy"),
    "no number": (_edit(lambda told: told["network"]["plan"].update(se_alpha="1")), "damaged .*se_alpha '1'"),
    "more of a plan": (_edit(lambda told: told["network"]["plan"].update(magic=1)), "damaged .*magic"),
    "a plan without a field": (_edit(lambda told: told["network"]["plan"].pop("multi_level")), "lacks multi_level"),
    "another block": (_forge(block="se"), r"does not fit .*blocks\.0\.gate"),
    "an unknown network": (_edit(lambda told: told["network"].update(name="magic")), "'magic' is none of joined"),
    "another network": (_forge_network, r"does not fit .*rhythm\.filters"),
    "cuts out of order": (_edit(lambda told: told.update(cuts=[0.6, 0.4])), "damaged .*in rising order"),
    "moved cuts": (_edit(lambda told: told.update(cuts=[0.1, 0.2])), "changed after it was written"),
    "a confidence that none has": (_edit(lambda told: told.update(least_confidence=40)), "damaged .*from 0 to 1"),
    "another head": (_forge(head="corn"), r"does not fit .*head\.weight"),
    "a terabyte": (_forge(widths=(65536,) * 5), r"does not fit .*first\.weight"),
    "an unknown merge parameter": (_edit(lambda told: told["merge"]["parameters"].update(x=1)), "damaged"),
    "an impossible plan": (_edit(lambda told: told["network"]["plan"].update(stride=10**9)), "damaged"),
    "nested without end": (
        lambda folder: (folder / MODEL_FILE).write_text("[" * 200_000 + "]" * 200_000),
        "damaged .*nested too deeply",
    ),
    "a huge temperature": (_edit(lambda told: told.update(temperature=10**400)), "damaged .*401 digits"),
    "huge cuts": (_edit(lambda told: told.update(cuts=[10**400, 10**400])), "damaged .*401 digits"),
    "an infinite hop": (_edit(lambda told: told.update(hop_s=math.inf)), "damaged .*Infinity is no number"),
    "huge marks": (_edit(lambda told: told.update(format=8, marks={"offset": 10**400})), "damaged .*401 digits"),
    "a huge merge parameter": (
        _edit(lambda told: told["merge"]["parameters"].update(silent_below=1e300)),
        "damaged .*merge parameters .*1e.300",
    ),
    "a grade that is no name": (_edit(lambda told: told.update(grades=["A", "B\nC", "D"])), "damaged .*names in print"),
    "a later format": (_edit(lambda told: told.update(format=10)), "has format 10, this version reads 9: update"),
    "an earlier format": (_edit(lambda told: told.update(format=5)), "has format 5, this version reads 9: train again"),
    "other rules": (_edit(lambda told: told["activity"].update(frame_s=0.1)), "other rules of silence and level"),
    "grades swapped by hand": (_edit(lambda told: told.update(grades=["B", "A", "C"])), "changed after it was written"),
    "other weights": (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"12345678"), "does not belong to"),
    "no safetensors": (_not_safetensors, "is no safetensors file"),
    "an unknown number": (_forge_number, "is no safetensors file .*F8_E8M0"),
    "weights that claim a terabyte": (_claims_a_terabyte, "is no safetensors file"),
    "a folder for a card": (_folder_for_a_card, "no model.json there"),
    "a link to a device": (_link_to_a_device, "model.json: is no file"),
    "a link to itself": (_link_to_itself, "no model.json there"),
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
def test_what_is_no_model_is_refused_in_one_line(damage, tmp_path):
    card = publish(str(tmp_path), CARD, _weights())
    folder = tmp_path / card.model_id
    damaged, message = DAMAGES[damage]
    damaged(folder)

    with pytest.raises(UserError, match=message) as refused:
        load(str(folder))

    assert str(refused.value).startswith((f"--model {folder}: ", f"{folder}/{MODEL_FILE}: "))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "current is damaged"),
        ("../../elsewhere", "current is damaged"),
        ("0123456789abcdef", "0123456789abcdef: no model.json there"),
    ],
)
def test_a_pointer_to_no_model_is_refused(content, words, place, tmp_path):
    publish(place, CARD, _weights())
    (tmp_path / "deep" / "model" / CURRENT).write_text(content)
    with pytest.raises(UserError, match=words):
        load(place)


def test_a_model_under_anothers_name_is_refused(place, tmp_path):
    card = publish(place, CARD, _weights())
    (tmp_path / "deep" / "model" / card.model_id).rename(tmp_path / "deep" / "model" / ("0" * 16))
    (tmp_path / "deep" / "model" / CURRENT).write_text("0" * 16)
    with pytest.raises(UserError, match=f"holds model {card.model_id}"):
        load(place)


def test_a_model_of_links_is_read_through_them_and_never_written_through(place, tmp_path):
    card = publish(place, CARD, _weights())
    folder = tmp_path / "deep" / "model" / card.model_id
    kept = {}
    for name in (WEIGHTS_FILE, MODEL_FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes() if name == WEIGHTS_FILE else b"not a model")
        kept[name] = (tmp_path / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=f"{MODEL_FILE} is damaged"):
        load(place)

    publish(place, CARD, _weights())

    assert load(place)[0] == card
    assert not (folder / MODEL_FILE).is_symlink()
    assert (folder / WEIGHTS_FILE).is_symlink()
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


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
    for cuts in ((0.6, 0.4), (0.5,), (0.2, 0.4, 0.6)):
        with pytest.raises(ValueError, match="in rising order"):
            dataclasses.replace(CARD, cuts=cuts)
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            dataclasses.replace(CARD, least_confidence=least)
    with pytest.raises(ValueError, match="has not learnt"):
        dataclasses.replace(CARD, merge="attention")
    with pytest.raises(ValueError, match="none of joined"):
        dataclasses.replace(CARD, network="magic")


def test_metrics_that_are_no_numbers_are_found_before_anything_is_written(place):
    with pytest.raises(ValueError, match="JSON"):
        publish(place, dataclasses.replace(CARD, metrics={"kappa": float("nan")}), _weights())
    with pytest.raises(UserError, match="no model"):
        load(place)


@given(data=st.data())
def test_a_card_changed_anywhere_is_the_same_or_refused(data):
    told = json.loads(dataclasses.replace(CARD, marks=MarkMap(0, 100, 5, 0, 100)).to_json())
    places = [told, told["network"], told["network"]["plan"], told["merge"], told["activity"], told["marks"]]
    inside = data.draw(st.sampled_from(places))
    inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(json_values)
    with contextlib.suppress(UserError):  # any other error is a defect
        assert card_from_json(json.dumps(told).encode(), "m").model_id == told["model_id"]


def test_the_card_round_trips_through_its_file_with_names_of_any_script():
    card = dataclasses.replace(CARD, grades=("なし", "très bien", "★"), temperature=0.1 + 0.2, weights_sha256="ab")

    again = card_from_json(card.to_json(), "m")

    assert again.grades == card.grades
    assert again.model_id == card.model_id
    assert again.to_json() == card.to_json()
