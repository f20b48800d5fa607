"""What a network starts from where it does not start from nothing: weights that have heard thousands of performances.

A starter holds the weights of both branches, or of several rhythm branches, for one sample rate and one segment length,
and for each network the direction in its embedding along which skill rises. From that a head for any grades follows by
itself: grades are taken to be equal shares of skill, as long as no label says otherwise. So a model can grade before it
has seen a label, and training moves it from there.
The one that ships lies in starters/<sample rate>/; `jobs/pretrain.py` makes it, and others. Loading is safetensors.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from scipy.stats import norm
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from samplecnn.architecture import Plan, plan_from_json
from samplecnn.contract import STARTER_FILE, STARTER_WEIGHTS
from samplecnn.errors import UserError, one_line
from samplecnn.hearing import Hearing
from samplecnn.network.joined import MEMBERS, RHYTHM_EMBEDDING, Joined, RhythmNetwork, Rhythms, build
from samplecnn.ordinal import HEADS, SharedWeight
from samplecnn.recipe import BRANCHES, NO_STARTER, SHIPPED_STARTER
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

# R performances, E embedding, G grades (0 = worst), K steps between them, O outputs of a head, Z points of skill.
Float64 = npt.NDArray[np.float64]

FORMAT = 1
MEMBER_NAMES = tuple(f"rhythms.{member}" for member in range(MEMBERS))
STARTERS = Path(__file__).parent / "starters"
RIDGES = np.logspace(-1, 4, 11)
LEAST_SPREAD = 1e-6
SKILL_Z = np.linspace(-1.5, 1.5, 31)  # standardised, over which a head is fitted
MOST_EXPLAINED = 0.9
HALVED = 4096  # a matrix of so many weights is kept in half precision


@dataclass(frozen=True)
class Direction:
    """Along which skill rises in a network's embedding: skill = embedding_E @ weight_E + offset, standardised to mean 0
    and spread 1 over performances; explained: the share of its variance that this tells, of performers not learnt
    from."""

    weight_E: tuple[float, ...]
    offset: float
    explained: float


@dataclass(frozen=True, kw_only=True)
class StarterCard:
    """What starter.json says. performances: how they were drawn (count, performers, seed ...); explained: of each
    branch, the share of every target's variance that it tells on performers it was not taught by."""

    sample_rate: int
    plan: Plan
    directions: Mapping[str, Direction]
    performances: Mapping[str, Any]
    taught: Mapping[str, Any]
    explained: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]
    weights_sha256: str = ""


@dataclass(frozen=True)
class Starter:
    """A card and the weights, named as by weights_of."""

    card: StarterCard
    weights: Mapping[str, Tensor]

    @property
    def id(self) -> str:
        """What tells it from other starters."""
        return self.card.weights_sha256[:16]


def new_network(
    name: str,
    plan: Plan,
    sample_rate: int,
    grades: int,
    head: str,
    starter: Starter | None,
    seed: int,
    *,
    attention: bool = False,
) -> tuple[Hearing, bool]:
    """The network of this name (network/joined.py) that a fit starts from, and whether all that hears in it is the
    starter's; attention, which starts as none, is learnt from recordings."""
    network = build(name, plan, sample_rate, grades, head, seed, attention=attention)
    return network, starter is not None and start(network, starter, head, grades)


def start(network: Hearing, starter: Starter, head: str, grades: int) -> bool:
    """Give a fresh network the starter's weights, and its head what follows from the direction of skill.

    Returns whether the starter taught all of the network, so that nothing is left to learn from the beginning.

    head: its name in HEADS, for so many grades. Of a joined network one branch alone may be taught: the other keeps its
    fresh weights, and the head does not listen to it yet. Raises ValueError where the starter is of another plan or
    rate.
    """
    directions, parts = starter.card.directions, parts_of(network)
    taught = {name: part for name, part in parts.items() if name in directions}
    if not taught or (len(taught) < len(parts) and not isinstance(network, Joined)):
        untaught, others = ({name.partition(".")[0] for name in names} for names in (parts, directions))
        log.warning(
            "the starter has not taught %s (but %s): training starts from nothing",
            " and ".join(sorted(untaught)),
            ", ".join(sorted(others)),
        )
        return False
    with torch.no_grad():
        for name, weight in weights_of(taught).items():
            held = starter.weights.get(name)
            if held is None or held.shape != weight.shape:
                raise ValueError(f"the starter holds no {name} of shape {tuple(weight.shape)}")
            weight.copy_(held)
    if isinstance(network, Joined):
        start_head(network.head, head, grades, directions.get("joined") or _of_one_branch(directions, network))
    else:
        for name, part in taught.items():
            start_head(part.head, head, grades, directions[name])
    return len(taught) == len(parts)


def parts_of(network: Hearing) -> dict[str, Hearing]:
    """What a starter teaches of a network, in the order of its embedding, by the names of directions and weights."""
    if isinstance(network, Joined):
        return {"samplecnn": network.samplecnn, "rhythm": network.rhythm}
    if isinstance(network, Rhythms):
        return dict(zip(MEMBER_NAMES, network.members_alone(), strict=True))
    return {"rhythm" if isinstance(network, RhythmNetwork) else "samplecnn": network}


def weights_of(parts: Mapping[str, Hearing]) -> dict[str, Tensor]:
    """The weights that a starter of these parts holds: all but those of heads, which grades follow from."""
    return {
        f"{name}.{key}": weight
        for name, part in parts.items()
        for key, weight in part.state_dict().items()
        if not key.startswith("head.")
    }


def _of_one_branch(directions: Mapping[str, Direction], network: Joined) -> Direction:
    """The direction in a joined embedding of which one branch alone was taught."""
    if "rhythm" in directions:
        taught = directions["rhythm"]
        return replace(taught, weight_E=(0.0,) * network.samplecnn.plan.embedding + taught.weight_E)
    taught = directions["samplecnn"]
    return replace(taught, weight_E=taught.weight_E + (0.0,) * RHYTHM_EMBEDDING)


def start_head(layer: nn.Module, head: str, grades: int, direction: Direction) -> None:
    """Let a head grade by the direction of skill, all grades being equal shares of it.

    Skill is taken to be normal, and so is what remains unknown of it. The outputs that the probabilities of the grades
    then ask for are fitted by a straight line over the skill that is heard, since a head is linear.
    """
    outputs_ZO = HEADS[head].outputs_of(torch.from_numpy(_probs_of_skill(grades, direction.explained))).numpy()
    slope_O, intercept_O = np.polyfit(SKILL_Z, outputs_ZO, 1)
    weight_E = np.array(direction.weight_E)
    if isinstance(layer, SharedWeight):
        slope_O = np.full_like(slope_O, slope_O.mean())
        weights, bias_O, weight_OE = layer.weight.weight, layer.bias, slope_O[:1, None] * weight_E
    else:
        assert isinstance(layer, nn.Linear)
        weights, bias_O, weight_OE = layer.weight, layer.bias, slope_O[:, None] * weight_E
    with torch.no_grad():
        weights.copy_(torch.from_numpy(weight_OE))
        bias_O.copy_(torch.from_numpy(intercept_O + slope_O * direction.offset))


def _probs_of_skill(grades: int, explained: float) -> Float64:
    """Probabilities of grades that are equal shares of skill, [Z, G], where the skill heard is SKILL_Z."""
    unknown = np.sqrt(1 - min(explained, MOST_EXPLAINED))
    cuts_K = norm.ppf(np.arange(1, grades) / grades)
    beyond_ZK = norm.sf((cuts_K - SKILL_Z[:, None]) / unknown)
    beyond_ZK = np.concatenate([np.ones((len(SKILL_Z), 1)), beyond_ZK, np.zeros((len(SKILL_Z), 1))], axis=1)
    probs_ZG: Float64 = -np.diff(beyond_ZK, axis=1)
    return probs_ZG


def find_direction(
    learn_RE: Float64, skill_R: Float64, held_RE: Float64, held_skill_R: Float64, alphas: npt.ArrayLike = RIDGES
) -> Direction:
    """The direction of skill in a network's mean embeddings, by ridge regression.

    skill_*: standardised; held_*: of performers that nothing was learnt from, which say how much is explained.
    """
    mean_E, spread_E = learn_RE.mean(axis=0), learn_RE.std(axis=0) + LEAST_SPREAD
    fitted = RidgeCV(alphas=alphas).fit((learn_RE - mean_E) / spread_E, skill_R)
    weight_E = fitted.coef_ / spread_E
    offset = float(fitted.intercept_ - mean_E @ weight_E)
    told_R = held_RE @ weight_E + offset
    explained = 1 - float(np.mean((told_R - held_skill_R) ** 2) / np.var(held_skill_R))
    return Direction(tuple(weight_E.tolist()), offset, explained)


# --- files -----------------------------------------------------------------------------------------------------------


def publish_starter(place: str, card: StarterCard, weights: Mapping[str, Tensor]) -> StarterCard:
    """Write a starter; the card comes last, and a reader trusts only weights that it names. Large matrices are
    kept in half precision: what that loses is a thousandth of what training moves them by."""
    kept = {
        name: w.detach().cpu().contiguous().to(torch.float16 if _is_large(w) else w.dtype)
        for name, w in weights.items()
    }
    data = safetensors.torch.save(kept)
    card = replace(card, weights_sha256=hashlib.sha256(data).hexdigest())
    store = open_store(place)
    store.put(STARTER_WEIGHTS, data)
    store.put(STARTER_FILE, (json.dumps({"format": FORMAT, **asdict(card)}, indent=1) + "\n").encode())
    return card


def _is_large(weight: Tensor) -> bool:
    return weight.is_floating_point() and weight.numel() >= HALVED


def load_starter(place: str) -> Starter:
    """The starter in a folder or bucket. Raises UserError in one line for whatever is none."""
    store = open_store(place)
    try:
        told, data = read_json(store.read(STARTER_FILE).data), store.read(STARTER_WEIGHTS).data
        if told.pop("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
        if hashlib.sha256(data).hexdigest() != told["weights_sha256"]:
            raise ValueError(f"{STARTER_WEIGHTS} does not belong to {STARTER_FILE}")
        plan = plan_from_json(told.pop("plan"))
        directions = {
            name: Direction(tuple(map(float, d["weight_E"])), float(d["offset"]), float(d["explained"]))
            for name, d in told.pop("directions").items()
        }
        card = StarterCard(**told, plan=plan, directions=directions)
        SegmentSettings(sample_rate=card.sample_rate)  # refuses what is no rate
        weights = {
            name: w.float() if w.dtype == torch.float16 else w for name, w in safetensors.torch.load(data).items()
        }
        _require_fit(card, weights)
    except FileNotFoundError:
        raise UserError(f"--init {place}: no starter there: let jobs/pretrain.py make one") from None
    except (ValueError, KeyError, TypeError, AttributeError, UserError, safetensors.SafetensorError) as error:
        why = one_line(f"{type(error).__name__}: {error}")
        raise UserError(
            f"--init {place}: its starter is damaged or of another version ({why}): pretrain again"
        ) from None
    return Starter(card, weights)


def _require_fit(card: StarterCard, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless directions and weights are numbers of the shapes that the networks have."""
    alone = {*BRANCHES, *MEMBER_NAMES}
    if not card.directions.keys() & alone or card.directions.keys() - {*alone, "joined"}:
        raise ValueError(f"directions of {', '.join(card.directions) or 'nothing'}")
    for name, direction in card.directions.items():
        with torch.device("meta"):  # no memory: a card may ask for any amount of it
            network = build("rhythm" if name in MEMBER_NAMES else name, card.plan, card.sample_rate, 2)
        numbers = np.array([*direction.weight_E, direction.offset, direction.explained])
        if len(direction.weight_E) != network.embedding or not np.isfinite(numbers).all():
            raise ValueError(f"the direction of {name} is not {network.embedding + 2} numbers")
        parts = parts_of(network) if isinstance(network, Joined) else {name: network}
        for whole, tensor in weights_of(parts).items():
            held = weights.get(whole)
            if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
                raise ValueError(f"no {whole} of shape {tuple(tensor.shape)}")
            if not torch.isfinite(held).all():
                raise ValueError(f"weights that are no numbers at {whole}")


def starter_for(init: str, sample_rate: int, plan: Plan) -> Starter | None:
    """What --init asks for, for segments of this rate and a SampleCNN of this plan; None: start from nothing.

    The starter that ships is taken where there is one that fits, and a log line says so where there is none. Raises
    UserError where a place is named whose starter is of something else.
    """
    if init == NO_STARTER:
        return None
    place = str(STARTERS / str(sample_rate)) if init == SHIPPED_STARTER else init
    if init == SHIPPED_STARTER and not (STARTERS / str(sample_rate) / STARTER_FILE).exists():
        rates = ", ".join(sorted((path.parent.name for path in STARTERS.glob(f"*/{STARTER_FILE}")), key=int))
        log.warning("no starter for %d Hz (there is one for %s Hz): training starts from nothing", sample_rate, rates)
        return None
    starter = load_starter(place)
    if starter.card.sample_rate == sample_rate and starter.card.plan == plan:
        return starter
    if init == SHIPPED_STARTER:
        log.warning("the starter is for %s, not for %s: training starts from nothing", starter.card.plan, plan)
        return None
    raise UserError(
        f"--init {init}: a starter for {starter.card.sample_rate} Hz and {starter.card.plan}, "
        f"not for {sample_rate} Hz and {plan}: pretrain for these, or leave --init out"
    )
