import hashlib
import json
import logging

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import spearmanr

from samplecnn.architecture import Plan, plan_for
from samplecnn.contract import STARTER_FILE, STARTER_WEIGHTS
from samplecnn.errors import UserError
from samplecnn.merge import expected_score, stated_grade
from samplecnn.network import SampleCNN
from samplecnn.network.joined import RHYTHM_EMBEDDING, Joined, RhythmNetwork, Rhythms, build
from samplecnn.ordinal import HEADS
from samplecnn.starter import (
    MEMBER_NAMES,
    Direction,
    StarterCard,
    find_direction,
    load_starter,
    new_network,
    parts_of,
    publish_starter,
    start,
    start_head,
    starter_for,
    weights_of,
)

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))
RATE = 500
KEYS = torch.arange(4)


def _direction(size: int, seed: int = 0, explained: float = 0.6) -> Direction:
    weight_E = np.random.default_rng(seed).standard_normal(size) / np.sqrt(size)
    return Direction(tuple(weight_E.tolist()), 0.25, explained)


def _taught(seed: int = 7) -> dict[str, torch.nn.Module]:
    """Both branches, with weights and running means that a fresh network has not."""
    branches = {"samplecnn": SampleCNN(PLAN, 5, seed=seed), "rhythm": RhythmNetwork(500, RATE, 5, seed=seed)}
    for branch in branches.values():
        branch.train()(torch.randn(4, 500, generator=torch.Generator().manual_seed(0)), KEYS)
    return branches


def _publish(place, branches=("samplecnn", "rhythm")) -> StarterCard:
    weights = {
        f"{name}.{key}": tensor
        for name, branch in _taught().items()
        if name in branches
        for key, tensor in branch.state_dict().items()
        if not key.startswith("head.")
    }
    sizes = {"samplecnn": PLAN.embedding, "rhythm": RHYTHM_EMBEDDING, "joined": PLAN.embedding + RHYTHM_EMBEDDING}
    names = (*branches, *(("joined",) if len(branches) == 2 else ()))
    return publish_starter(str(place), _card({name: _direction(sizes[name]) for name in names}), weights)


def _card(directions: dict[str, Direction]) -> StarterCard:
    return StarterCard(
        sample_rate=RATE,
        plan=PLAN,
        directions=directions,
        performances={"count": 4, "performers": 2, "seed": 0},
        taught={"epochs": 1},
        explained={name: {"skill": 0.5} for name in directions},
        versions={"torch": "x"},
    )


def _publish_rhythms(place, members=MEMBER_NAMES) -> Rhythms:
    """A starter of several branches, each with a direction of its own."""
    taught = build("rhythms", PLAN, RATE, 5, seed=7)
    taught.train()(torch.randn(4, 500, generator=torch.Generator().manual_seed(0)), KEYS)
    directions = {name: _direction(RHYTHM_EMBEDDING, seed) for seed, name in enumerate(members)}
    publish_starter(str(place), _card(directions), weights_of(parts_of(taught)))
    return taught.eval()


@pytest.fixture
def place(tmp_path):
    _publish(tmp_path / "starter")
    return tmp_path / "starter"


def test_a_starter_is_read_back_as_it_was_made(place):
    starter = load_starter(str(place))
    assert starter.card == _publish(place)
    assert starter.id == starter.card.weights_sha256[:16]
    for name, branch in _taught().items():
        for key, tensor in branch.state_dict().items():
            if not key.startswith("head."):
                torch.testing.assert_close(starter.weights[f"{name}.{key}"], tensor, rtol=1e-3, atol=1e-6)


def test_large_matrices_are_kept_in_half_precision_and_no_others(place):
    kept = safetensors.torch.load((place / STARTER_WEIGHTS).read_bytes())
    halved = {name for name, tensor in kept.items() if tensor.dtype == torch.float16}
    assert "rhythm.hidden.weight" in halved
    assert all(kept[name].numel() >= 4096 for name in halved)
    assert "rhythm.rhythm.filters" not in halved
    assert all(tensor.dtype != torch.float16 for tensor in load_starter(str(place)).weights.values())


def _no_json(place):
    (place / STARTER_FILE).write_bytes(b"{\xff")


def _another_format(place):
    told = json.loads((place / STARTER_FILE).read_text())
    (place / STARTER_FILE).write_text(json.dumps({**told, "format": 99}))


def _no_plan(place):
    told = json.loads((place / STARTER_FILE).read_text())
    del told["plan"]
    (place / STARTER_FILE).write_text(json.dumps(told))


def _other_weights(place):
    data = bytearray((place / STARTER_WEIGHTS).read_bytes())
    data[-1] ^= 1
    (place / STARTER_WEIGHTS).write_bytes(bytes(data))


def _no_weights(place):
    (place / STARTER_WEIGHTS).unlink()


def _edit(change):
    def edited(place):
        told = json.loads((place / STARTER_FILE).read_text())
        change(told)
        (place / STARTER_FILE).write_text(json.dumps(told))

    return edited


def _vouched(change):
    """Weights that the card vouches for, but that are not what the networks need."""

    def changed(place):
        weights = safetensors.torch.load((place / STARTER_WEIGHTS).read_bytes())
        change(weights)
        data = safetensors.torch.save(weights)
        (place / STARTER_WEIGHTS).write_bytes(data)
        _edit(lambda told: told.update(weights_sha256=hashlib.sha256(data).hexdigest()))(place)

    return changed


DAMAGES = {
    "no json": _no_json,
    "another format": _another_format,
    "no plan": _no_plan,
    "other weights": _other_weights,
    "no weights": _no_weights,
    "nested without end": lambda place: (place / STARTER_FILE).write_text("[" * 200_000),
    "a rate that is a word": _edit(lambda told: told.update(sample_rate="500")),
    "a rate out of bounds": _edit(lambda told: told.update(sample_rate=1)),
    "a huge number": _edit(lambda told: told["directions"]["rhythm"].update(explained=10**400)),
    "a direction that is no number": _edit(lambda told: told["directions"]["rhythm"].update(offset=np.nan)),
    "a short direction": _edit(lambda told: told["directions"]["joined"].update(weight_E=[1.0])),
    "no direction": _edit(lambda told: told.update(directions={})),
    "an unknown direction": _edit(lambda told: told["directions"].update(magic=told["directions"]["joined"])),
    "NaN weights": _vouched(lambda weights: weights["samplecnn.first.weight"].fill_(np.nan)),
    "a weight lost": _vouched(lambda weights: weights.pop("rhythm.hidden.bias")),
    "a wrong shape": _vouched(lambda weights: weights.update({"rhythm.hidden.bias": torch.zeros(1)})),
    "whole numbers": _vouched(lambda weights: weights.update({"rhythm.hidden.bias": torch.zeros(32).long()})),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_starter_is_refused_in_one_line_with_its_place(place, damage):
    damage(place)
    with pytest.raises(UserError) as refused:
        load_starter(str(place))
    assert str(refused.value).startswith(f"--init {place}: ")
    assert "\n" not in str(refused.value)
    assert "pretrain" in str(refused.value)


@pytest.mark.parametrize(("rate", "plan"), [(250, PLAN), (RATE, plan_for(500))])
def test_a_starter_of_something_else_is_refused_with_the_cure(place, rate, plan):
    assert starter_for(str(place), RATE, PLAN).card.sample_rate == RATE
    with pytest.raises(UserError, match=r"a starter for 500 Hz .*pretrain for these, or leave --init out"):
        starter_for(str(place), rate, plan)


def test_none_starts_from_nothing():
    assert starter_for("none", RATE, PLAN) is None


def test_where_no_starter_that_ships_fits_a_log_line_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert starter_for("starter", 123, PLAN) is None
    assert "no starter for 123 Hz" in caplog.text


@pytest.mark.parametrize("name", ["samplecnn", "rhythm", "joined"])
def test_a_network_hears_as_the_starter_was_taught(place, name):
    network = build(name, PLAN, RATE, 3, seed=1)
    start(network, load_starter(str(place)), "cross-entropy", 3)
    taught = {branch: module.eval() for branch, module in _taught().items()}
    wave_BT = torch.randn(3, 500, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = [taught[branch].embed(wave_BT) for branch in taught if name in (branch, "joined")]
        torch.testing.assert_close(network.eval().embed(wave_BT), torch.cat(expected, dim=1), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("grades", [2, 3, 4, 5])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_grades_by_the_direction_of_skill_in_equal_shares(head, grades):
    direction = _direction(16, explained=0.6)
    layer = HEADS[head].layer(16, grades)
    start_head(layer, head, grades, direction)
    weight_E = np.array(direction.weight_E)
    # The skill that is heard spreads by as much as it explains.
    skill_R = np.random.default_rng(0).standard_normal(4000) * np.sqrt(direction.explained)
    along_RE = (skill_R - direction.offset)[:, None] * weight_E / (weight_E @ weight_E)

    with torch.no_grad():
        probs_RG = HEADS[head].probs(layer(torch.from_numpy(along_RE).float())).numpy()
        middle_E = -direction.offset * weight_E / (weight_E @ weight_E)
        middle_G = HEADS[head].probs(layer(torch.from_numpy(middle_E).float()[None]))[0]

    score_R = [expected_score(probs_G) for probs_G in probs_RG]
    assert spearmanr(skill_R, score_R).statistic == pytest.approx(1.0, abs=1e-3)
    # A straight line fits CORN's steps worst: 0.57 at five grades.
    assert expected_score(middle_G.numpy()) == pytest.approx(0.5, abs=0.08)
    assert grades % 2 == 0 or stated_grade(middle_G.numpy()) == grades // 2
    np.testing.assert_allclose(probs_RG.mean(axis=0), 1 / grades, atol=0.08)


@pytest.mark.parametrize(("taught", "deaf_to"), [("rhythm", "samplecnn"), ("samplecnn", "rhythm")])
def test_a_branch_that_was_not_taught_starts_fresh_and_unheard(tmp_path, taught, deaf_to):
    _publish(tmp_path, branches=(taught,))
    network, fresh = (Joined(PLAN, RATE, 3, seed=1) for _ in range(2))
    start(network, load_starter(str(tmp_path)), "cross-entropy", 3)

    left, untouched = getattr(network, deaf_to).state_dict(), getattr(fresh, deaf_to).state_dict()
    assert all(torch.equal(left[key], tensor) for key, tensor in untouched.items())
    sample_OE, rhythm_OE = network.head.weight.tensor_split([PLAN.embedding], dim=1)
    heard_OE, unheard_OE = (sample_OE, rhythm_OE) if taught == "samplecnn" else (rhythm_OE, sample_OE)
    assert not unheard_OE.any()
    assert heard_OE.any()


def test_a_network_that_the_starter_has_not_taught_is_left_as_it_is(tmp_path, caplog):
    _publish(tmp_path, branches=("rhythm",))
    network, fresh = (SampleCNN(PLAN, 3, seed=1) for _ in range(2))
    start(network, load_starter(str(tmp_path)), "cross-entropy", 3)
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in fresh.state_dict().items())
    assert "has not taught samplecnn" in caplog.text


def test_each_of_several_rhythm_branches_starts_from_its_own(tmp_path):
    taught = _publish_rhythms(tmp_path)
    network, started = new_network("rhythms", PLAN, RATE, 3, "coral", load_starter(str(tmp_path)), seed=1)
    assert started
    wave_BT = torch.randn(3, 500, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(network.eval().embed(wave_BT), taught.embed(wave_BT), rtol=1e-2, atol=1e-2)
    for seed, branch in enumerate(network.branches):
        alone = HEADS["coral"].layer(RHYTHM_EMBEDDING, 3)
        start_head(alone, "coral", 3, _direction(RHYTHM_EMBEDDING, seed))
        assert all(torch.equal(tensor, branch.head.state_dict()[key]) for key, tensor in alone.state_dict().items())


def test_of_several_rhythm_branches_all_are_taught_or_none(tmp_path, caplog):
    _publish_rhythms(tmp_path, members=MEMBER_NAMES[1:])
    network, fresh = (build("rhythms", PLAN, RATE, 3, seed=1) for _ in range(2))
    assert not start(network, load_starter(str(tmp_path)), "cross-entropy", 3)
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in fresh.state_dict().items())
    assert "has not taught rhythms" in caplog.text


@pytest.mark.parametrize("name", ["joined", "samplecnn", "rhythm"])
def test_what_rhythm_branches_were_taught_is_theirs_alone(tmp_path, caplog, name):
    _publish_rhythms(tmp_path)
    assert not new_network(name, PLAN, RATE, 3, "cross-entropy", load_starter(str(tmp_path)), seed=1)[1]
    assert "(but rhythms)" in caplog.text


def test_a_starter_of_which_a_rhythm_branch_was_lost_is_refused(tmp_path):
    _publish_rhythms(tmp_path)
    _vouched(lambda weights: weights.pop("rhythms.3.hidden.bias"))(tmp_path)
    with pytest.raises(UserError, match=r"no rhythms\.3\.hidden\.bias"):
        load_starter(str(tmp_path))


@pytest.mark.parametrize(
    ("taught", "name", "whole"),
    [
        (("samplecnn", "rhythm"), "joined", True),
        (("rhythm",), "rhythm", True),
        (("rhythm",), "joined", False),
        (("rhythm",), "samplecnn", False),
        (("rhythm",), "rhythms", False),
    ],
)
def test_a_network_counts_as_started_only_where_all_of_it_was_taught(tmp_path, taught, name, whole):
    _publish(tmp_path, branches=taught)
    starter = load_starter(str(tmp_path))
    assert new_network(name, PLAN, RATE, 3, "cross-entropy", starter, seed=1)[1] is whole
    assert new_network(name, PLAN, RATE, 3, "cross-entropy", None, seed=1)[1] is False


def test_the_direction_of_skill_is_found_and_tells_how_much_it_explains():
    rng = np.random.default_rng(0)
    skill_R = rng.standard_normal(400)
    heard_RE = np.outer(skill_R, [2.0, -1.0, 0.0]) + rng.standard_normal((400, 3)) * [1.0, 1.0, 5.0]
    found = find_direction(heard_RE[:300], skill_R[:300], heard_RE[300:], skill_R[300:])
    told_R = heard_RE[300:] @ np.array(found.weight_E) + found.offset
    assert np.corrcoef(told_R, skill_R[300:])[0, 1] > 0.85
    assert found.explained == pytest.approx(1 - ((told_R - skill_R[300:]) ** 2).mean() / skill_R[300:].var())
    assert 0.7 < found.explained < 0.9
