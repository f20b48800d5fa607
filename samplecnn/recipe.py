"""What a user decides about training. Apart from fit.py, which costs two seconds of torch before --help can print.

`paper` is the published recipe, `modern` what was measured to be no worse in a fraction of the time (docs/model.md),
`from-nothing` what hears real pianists' playing, which the starter does not (docs/rated-playing.md). A recipe is a
column of defaults, and any of them can be set by itself; what optimiser and schedule it has stands in optimisers.py.
Where the user names none, the labels choose between modern and from-nothing (starting.py).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from samplecnn.architecture import DEFAULT_NETWORK, NetworkSettings
from samplecnn.errors import UserError
from samplecnn.flags import Args, flag, flag_name

AUGMENTATIONS = ("gain", "polarity", "noise", "equaliser", "reverb")  # those of augment.py
NO_AUGMENTATION = "none"
BRANCHES = ("samplecnn", "rhythm")  # of the joined network, in the order of its embedding
SEGMENTS, RECORDINGS = "segments", "recordings"  # what a network learns from
NO_STARTER, SHIPPED_STARTER = "none", "starter"
DEFAULT_RECIPE, FROM_NOTHING = "modern", "from-nothing"
FROM_NOTHING_NETWORK = "rhythms"  # what was trained by it
TAUGHT_UNLABELLED = (DEFAULT_NETWORK, FROM_NOTHING_NETWORK)

# paper: Lee, Park, Kim, Nam 2017 and its code (jongpillee/sampleCNN): batch, rate and patience are the published ones;
# it has no weight decay and no augmentation. Its stages end by themselves, so `epochs` only bounds what never settles.
# from-nothing: what was found on rated pianists (docs/rated-playing.md).
RECIPES: dict[str, dict[str, Any]] = {
    "modern": {
        "epochs": 15,
        "crops": 4,
        "batch_size": 16,
        "learning_rate": 3e-4,
        "weight_decay": 0.05,
        "patience": 5,
        "train_on_all": False,
        "init": SHIPPED_STARTER,
        "augment": ",".join(AUGMENTATIONS),
    },
    "paper": {
        "epochs": 100,
        "crops": 4,
        "batch_size": 23,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "patience": 3,
        "train_on_all": False,
        "init": NO_STARTER,
        "augment": NO_AUGMENTATION,
    },
}
RECIPES[FROM_NOTHING] = RECIPES[DEFAULT_RECIPE] | {
    "epochs": 10,
    "crops": 8,
    "learning_rate": 3e-3,
    "train_on_all": True,
    "init": NO_STARTER,
}


def _told(default: Any) -> Any:
    return ("off", "on")[default] if isinstance(default, bool) else default


def _by_recipe(name: str, help: str) -> Any:
    """A flag whose default is the recipe's."""
    told = {recipe: _told(defaults[name]) for recipe, defaults in RECIPES.items()}
    same = len(set(told.values())) == 1
    text = str(told[DEFAULT_RECIPE]) if same else ", ".join(f"{recipe} {value}" for recipe, value in told.items())
    return flag(None, f"{help} (default: {text})")


def _require_rates(learning_rate: float, weight_decay: float) -> None:
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UserError(f"--learning-rate {learning_rate}: choose a number above 0")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise UserError(f"--weight-decay {weight_decay}: choose 0 or more")


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a network is trained. What is left out is the recipe's, and filled in: an object holds values alone."""

    recipe: str = flag(
        None,
        "modern: AdamW, rate rising, then falling along a cosine; paper: SGD with Nesterov momentum in five stages, "
        "each from the best weights so far; from-nothing: as modern, from nothing, at a high rate, with nothing held "
        "back, for some hundred recordings or more (default: modern; where none of --recipe, --init, --network and "
        "--learn-from recordings is given and a hundred labels show that the starter does not hear what they say, "
        "from-nothing)",
        choices=tuple(RECIPES),
    )
    learn_from: str = flag(
        SEGMENTS,
        "segments: each has the grade of its recording; recordings: the network and how much each segment counts learn "
        "together from the grade of the whole, of which --crops segments are heard at once",
        choices=(SEGMENTS, RECORDINGS),
    )
    epochs: int = _by_recipe("epochs", "most passes over the recordings")
    crops: int = _by_recipe("crops", "segments drawn from each recording in an epoch")
    batch_size: int = _by_recipe("batch_size", "segments a training step, over all workers together")
    learning_rate: float = _by_recipe(
        "learning_rate", "highest learning rate; a network that starts from a starter learns at a tenth of it"
    )
    weight_decay: float = _by_recipe("weight_decay", "pull of the weights towards 0")
    patience: int = _by_recipe("patience", "epochs without improvement after which training, or a stage of it, stops")
    train_on_all: bool = _by_recipe(
        "train_on_all",
        "hold no recordings back to say which epoch is best: all epochs are run, and the last is kept. For set pieces, "
        "where what is held back is judged without its piece and ends training too soon",
    )
    init: str = _by_recipe(
        "init",
        f"what the weights start from: {SHIPPED_STARTER}, the one that ships, taught by generated performances; "
        f"{NO_STARTER}; or the place of one that jobs/pretrain.py wrote",
    )
    augment: str = _by_recipe(
        "augment",
        f"changes to the segments that keep the grade: {NO_AUGMENTATION}, or some of {','.join(AUGMENTATIONS)}",
    )
    bfloat16: bool = flag(
        False, "train in half precision: faster on CPUs that have it (avx512_bf16, amx_bf16), slower on others"
    )

    def __post_init__(self) -> None:
        if self.recipe is None:
            object.__setattr__(self, "recipe", DEFAULT_RECIPE)
        if self.recipe not in RECIPES:
            raise UserError(f"--recipe {self.recipe}: choose {' or '.join(RECIPES)}")
        for name, value in RECIPES[self.recipe].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, least in (("epochs", 1), ("crops", 1), ("batch_size", 2), ("patience", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{flag_name(name)} {getattr(self, name)}: choose {least} or more")
        if self.learn_from not in (SEGMENTS, RECORDINGS):
            raise UserError(f"--learn-from {self.learn_from}: choose {SEGMENTS} or {RECORDINGS}")
        if self.learn_from == RECORDINGS and self.crops < 2:
            raise UserError(
                "--learn-from recordings: choose --crops 2 or more: of one segment there is nothing to merge"
            )
        if self.learn_from == RECORDINGS and self.batch_size % self.crops:
            raise UserError(
                f"--batch-size {self.batch_size}: choose a multiple of --crops ({self.crops}), whole recordings"
            )
        _require_rates(self.learning_rate, self.weight_decay)
        if unknown := sorted(set(self.augmentations) - set(AUGMENTATIONS)):
            known = ",".join(AUGMENTATIONS)
            raise UserError(f"--augment {self.augment}: {unknown[0]!r} is none of {known}; {NO_AUGMENTATION}: none")

    @property
    def attention(self) -> bool:
        """Does the network learn how much a segment counts?"""
        return self.learn_from == RECORDINGS

    @property
    def augmentations(self) -> frozenset[str]:
        """The names of the changes that are on."""
        return frozenset() if self.augment == NO_AUGMENTATION else frozenset(self.augment.split(","))


class Way(NamedTuple):
    """One way to train."""

    network: NetworkSettings
    fit: FitSettings


def ways_of(args: Args) -> tuple[Way, Way | None]:
    """How the flags ask a network to be trained; and how instead, where the labels show that the starter does not hear
    what they say, None: that is not left to them."""
    asked = Way(args.build(NetworkSettings), args.build(FitSettings))
    if args.recipe or args.init or args.network or asked.fit.attention:
        return asked, None
    network = replace(asked.network, network=FROM_NOTHING_NETWORK)
    return asked, Way(network, args.build(FitSettings, recipe=FROM_NOTHING))


@dataclass(frozen=True, kw_only=True)
class UnlabelledSettings:
    """How a network learns from recordings that nobody has graded: all of it decides the starter."""

    network: str = flag(
        DEFAULT_NETWORK,
        "what is taught: both branches (joined), from which train starts its networks joined, samplecnn and rhythm; or "
        "several rhythm branches that each learn alone, from which it starts rhythms",
        choices=TAUGHT_UNLABELLED,
    )
    epochs: int = flag(8, "most passes over the recordings")
    crops: int = flag(4, "pairs drawn from each recording in an epoch")
    batch_size: int = flag(16, "pairs a training step, over all workers together")
    learning_rate: float = flag(1e-3, "highest learning rate")

    def __post_init__(self) -> None:
        if self.network not in TAUGHT_UNLABELLED:
            raise UserError(f"--network {self.network}: choose {' or '.join(TAUGHT_UNLABELLED)}")
        self.fit()  # which knows what cannot be meant

    def fit(self) -> FitSettings:
        """The same as settings of a fit."""
        return FitSettings(
            epochs=self.epochs,
            crops=self.crops,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            init=NO_STARTER,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What is performed and how it is taught: all of it decides the starter."""

    count: int = flag(8000, "performances")
    performers: int = flag(2000, "performers; one in 20 is kept to look at what was learnt")
    epochs: int = flag(12, "passes over the performances")
    crops: int = flag(2, "segments drawn from each performance in an epoch")
    batch_size: int = flag(32, "segments a training step")
    learning_rate: float = flag(3e-3, "highest learning rate of the rhythm branch; SampleCNN's is a third of it")
    weight_decay: float = flag(0.05, "pull of the weights towards 0")
    branches: str = flag(
        ",".join(BRANCHES), f"what is taught, among {','.join(BRANCHES)}; the other starts from nothing"
    )
    bfloat16: bool = flag(False, "teach in half precision: faster on CPUs that have it (avx512_bf16, amx_bf16)")

    @property
    def taught(self) -> tuple[str, ...]:
        """The branches that are taught."""
        return tuple(name for name in BRANCHES if name in self.branches.split(","))

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.branches.split(",")) - set(BRANCHES)):
            raise UserError(f"--branches {self.branches}: {unknown[0]!r} is none of {', '.join(BRANCHES)}")
        for name in ("count", "epochs", "crops", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{flag_name(name)} {getattr(self, name)}: choose 1 or more")
        _require_rates(self.learning_rate, self.weight_decay)
        if not 2 <= self.performers <= self.count / 2:
            raise UserError(f"--performers {self.performers}: choose from 2 to half of --count ({self.count})")
