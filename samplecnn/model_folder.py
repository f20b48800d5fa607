"""The model folder: <id>/model.safetensors and <id>/model.json, all that grading needs and nothing that runs; beside
them <id>/trained_on.json, by which it can be told whether a recording was learnt from.

It is published whole or not at all: its files lie in a folder of their own, named by what they hold, and are complete
before the small file `current` is replaced, in one step, to point at them. So a reader sees the old model or the new
one, an earlier model is one pointer away, and a folder with a model's two files is a model too, wherever it was copied.
Loading is safetensors, never pickle.
"""

import dataclasses
import hashlib
import json
import logging
import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import samplecnn
from samplecnn import contract
from samplecnn.architecture import DEFAULT_NETWORK, NETWORK_NAMES, Plan, plan_from_json
from samplecnn.contract import CURRENT, MODEL_FILE, TRAINED_ON_FILE, WEIGHTS_FILE
from samplecnn.errors import JobError, LostRace, UserError, one_line
from samplecnn.hearing import Hearing
from samplecnn.likeness import Likeness, likeness_from_json
from samplecnn.marks import MarkMap
from samplecnn.merge import ATTENTION, DEFAULT_MERGE, MERGE_RULES, Course, MergeRule, merge_rule
from samplecnn.network.joined import build
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.segments import SegmentSettings
from samplecnn.set_pieces import SetPieces, set_pieces_from_json
from samplecnn.store import Store, open_store
from samplecnn.trained_on import TrainedOn, trained_on_from_json
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

FORMAT = 9  # of model.json; a reader refuses what it does not know
WITHOUT_PIECES = 8  # written still by models that know no set pieces, so that their ids stay
WITHOUT_MARKS = 7  # likewise: of models that tell no marks
WITHOUT_LIKENESS = 6  # likewise: of models that know nothing of what is not playing
MOST_OF_A_PARAMETER = 1e6  # of a merge rule; those learnt are some tens at most
NORMALISATION = "unit RMS over the active frames, once per recording"
_ID = re.compile(r"[0-9a-f]{16}")


def activity_rule() -> dict[str, float]:
    """The constants that decide where somebody plays: a model's grades hold for these alone."""
    return {
        "frame_s": contract.FRAME_S,
        "floor_dbfs": contract.ACTIVE_FLOOR_DBFS,
        "range_db": contract.ACTIVE_RANGE_DB,
        "loud_percentile": contract.LOUD_PERCENTILE,
        "nothing_left_dbfs": contract.NOTHING_LEFT_DBFS,
        "last_segment_share": contract.LAST_SEGMENT_SHARE,
    }


def library_versions() -> dict[str, str]:
    """What this process runs on, for the record."""
    return {
        "samplecnn": samplecnn.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What model.json says.

    grades: worst first, as everywhere inside; the file lists them best first, as people do. network: its name in
    architecture.NETWORK_NAMES; attention: it has learnt how much a segment counts. temperature divides the network's
    outputs before they become probabilities; cuts lie between the scores of neighbouring grades, none: the median rank
    is stated; below least_confidence none is, 0: every recording gets one. likeness: what tells playing like that of
    the training recordings from what is none; None: nobody asks; marks: the way from a score to the
    jury's mark, None: no marks were given; pieces: what it knows of set pieces.
    training_data: fingerprint of segments and labels; metrics: what was measured, as JSON values.
    weights_sha256 is filled in by publish.
    """

    plan: Plan
    settings: SegmentSettings
    grades: tuple[str, ...]
    network: str = DEFAULT_NETWORK
    attention: bool = False
    head: str = DEFAULT_HEAD
    merge: str = DEFAULT_MERGE
    merge_parameters: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    cuts: tuple[float, ...] = ()
    least_confidence: float = 0.0
    likeness: Likeness | None = None
    marks: MarkMap | None = None
    pieces: SetPieces | None = None
    training_data: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        if self.plan.segment_samples != self.settings.segment_samples:
            raise ValueError(f"network for {self.plan.segment_samples} samples, not {self.settings.segment_samples}")
        if len(self.grades) < 2 or len(set(self.grades)) < len(self.grades):
            raise ValueError(f"grades {self.grades}: two or more different ones are needed")
        if not all(grade.strip() and grade.isprintable() and "," not in grade for grade in self.grades):
            raise ValueError(f"grades {self.grades}: names in print without commas are needed")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature {self.temperature}: a number above 0 is needed")
        if not 0 <= self.least_confidence <= 1:
            raise ValueError(f"least confidence {self.least_confidence}: a number from 0 to 1 is needed")
        if self.network not in NETWORK_NAMES:
            raise ValueError(f"{self.network!r} is none of {', '.join(NETWORK_NAMES)}")
        if len(self.cuts) not in (0, len(self.grades) - 1) or list(self.cuts) != sorted(self.cuts):
            raise ValueError(f"cuts {self.cuts}: one between neighbouring grades is needed, in rising order, or none")
        for name, registry in ((self.head, HEADS), (self.merge, MERGE_RULES)):
            if name not in registry:
                raise ValueError(f"{name!r} is none of {', '.join(registry)}")
        if self.merge == ATTENTION and not self.attention:
            raise ValueError(f"merged by {ATTENTION}, which the network has not learnt")
        # Parameters left to their defaults are part of the card too: a default may change.
        told = dataclasses.asdict(self.rule())  # type: ignore[call-overload]
        if not all(abs(value) <= MOST_OF_A_PARAMETER for value in told.values()):
            raise ValueError(f"merge parameters {told}: numbers to {MOST_OF_A_PARAMETER:g} are needed")
        object.__setattr__(self, "merge_parameters", told)

    @property
    def model_id(self) -> str:
        """A hash of everything that changes grades: same id, same grades."""
        told = json.dumps({"format": self._format(), **self._grading()}, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def rule(self) -> MergeRule:
        """The merge rule with its parameters."""
        return merge_rule(self.merge, self.merge_parameters)

    def asks_for_course(self) -> bool:
        """Does the merge rule ask for the course of the recording (course.py)? It costs to measure."""
        return isinstance(self.rule(), Course)

    def build(self) -> Hearing:
        """The network, its weights not loaded."""
        rate, grades = self.settings.sample_rate, len(self.grades)
        return build(self.network, self.plan, rate, grades, self.head, attention=self.attention)

    def to_json(self) -> bytes:
        """model.json."""
        told = {
            "format": self._format(),
            "model_id": self.model_id,
            **self._grading(),
            "training_data": self.training_data,
            "metrics": dict(self.metrics),
            "versions": dict(self.versions),
        }
        return (json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def _format(self) -> int:
        if self.pieces:
            return FORMAT
        if self.marks:
            return WITHOUT_PIECES
        return WITHOUT_MARKS if self.likeness else WITHOUT_LIKENESS

    def _grading(self) -> dict[str, Any]:
        return {
            "network": {
                "name": self.network,
                "attention": self.attention,
                "head": self.head,
                "plan": dataclasses.asdict(self.plan),
            },
            "sample_rate": self.settings.sample_rate,
            "segment_s": self.settings.segment_s,
            "hop_s": self.settings.hop_s,
            "grades": list(reversed(self.grades)),
            "normalisation": NORMALISATION,
            "activity": activity_rule(),
            "merge": {"rule": self.merge, "parameters": dict(self.merge_parameters)},
            "temperature": self.temperature,
            "cuts": list(self.cuts),
            "least_confidence": self.least_confidence,
            "weights_sha256": self.weights_sha256,
            **({"likeness": self.likeness.to_json()} if self.likeness else {}),
            **({"marks": dataclasses.asdict(self.marks)} if self.marks else {}),
            **({"pieces": self.pieces.to_json()} if self.pieces else {}),
        }


def card_from_json(data: bytes, place: str) -> ModelCard:
    """The card that to_json wrote. Raises UserError, naming the place, for anything else."""
    try:
        told = read_json(data)
        known, same_rules = (
            told["format"] in (WITHOUT_LIKENESS, WITHOUT_MARKS, WITHOUT_PIECES, FORMAT),
            _same_rules(told),
        )
        card = _card(told) if known and same_rules else None
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        _refuse(place, f"{MODEL_FILE} is damaged or was not written by samplecnn ({_one_line(error)}): train again")
    if not known:
        cure = "train again" if told["format"] in range(FORMAT) else "update samplecnn"
        _refuse(place, f"{MODEL_FILE} has format {told['format']}, this version reads {FORMAT}: {cure}")
    if card is None:
        _refuse(place, "other rules of silence and level than this version's: train again or use the version it names")
    if told.get("model_id") != card.model_id:
        _refuse(place, f"{MODEL_FILE} was changed after it was written: train again")
    return card


def _same_rules(told: Mapping[str, Any]) -> bool:
    return told.get("normalisation") == NORMALISATION and told.get("activity") == activity_rule()


def _has_likeness(told: Mapping[str, Any]) -> bool:
    return told["format"] == WITHOUT_MARKS or (told["format"] >= WITHOUT_PIECES and "likeness" in told)


def _has_marks(told: Mapping[str, Any]) -> bool:
    return told["format"] == WITHOUT_PIECES or (told["format"] == FORMAT and "marks" in told)


def _card(told: Mapping[str, Any]) -> ModelCard:
    network = told["network"]
    return ModelCard(
        plan=plan_from_json(network["plan"]),
        settings=SegmentSettings(sample_rate=told["sample_rate"], segment_s=told["segment_s"], hop_s=told["hop_s"]),
        grades=tuple(reversed([str(grade) for grade in told["grades"]])),
        network=str(network["name"]),
        attention=bool(network["attention"]),
        head=network["head"],
        merge=told["merge"]["rule"],
        merge_parameters={str(name): float(value) for name, value in told["merge"]["parameters"].items()},
        temperature=float(told["temperature"]),
        cuts=tuple(float(cut) for cut in told["cuts"]),
        least_confidence=float(told["least_confidence"]),
        likeness=likeness_from_json(told["likeness"]) if _has_likeness(told) else None,
        marks=MarkMap(**told["marks"]) if _has_marks(told) else None,
        pieces=set_pieces_from_json(told["pieces"]) if told["format"] == FORMAT else None,
        training_data=str(told["training_data"]),
        metrics=dict(told["metrics"]),
        versions=dict(told["versions"]),
        weights_sha256=str(told["weights_sha256"]),
    )


def publish(place: str, card: ModelCard, weights: Mapping[str, Tensor], trained: TrainedOn | None = None) -> ModelCard:
    """Write the model and make it the current one; returns the card with the weights' hash.

    weights: the network's state dict; trained: what it learnt from. Wherever this is killed, the model that was current
    still is. Of two that publish at once the last one wins.
    """
    data = safetensors.torch.save({name: w.detach().cpu().contiguous() for name, w in weights.items()})
    card = dataclasses.replace(card, weights_sha256=hashlib.sha256(data).hexdigest())
    told = card.to_json()  # before anything is written: metrics may hold what JSON cannot
    store = open_store(place)
    _settle(store, f"{card.model_id}/{WEIGHTS_FILE}", data)
    _settle(store, f"{card.model_id}/{MODEL_FILE}", told)
    if trained:
        _settle(store, f"{card.model_id}/{TRAINED_ON_FILE}", trained.to_json())
    _point(store, card.model_id)
    log.info("model %s is in %s", card.model_id, place)
    return card


def use(place: str, model_id: str) -> None:
    """Make a model that was published here the current one again. Raises UserError if there is none of that id."""
    if not _ID.fullmatch(model_id):
        _refuse(place, f"{model_id!r} is no model id: 16 digits from 0 to f")
    load(open_store(place).url(model_id))
    _point(open_store(place), model_id)


def current_id(place: str) -> str | None:
    """The id of the current model of a place; None where there is none yet."""
    return _current(place)


def adopt(source: str, place: str) -> None:
    """Have the files of the model that `load` loads from `source` in this place too, under its id; not as the current
    one. Writes nothing where they are there already."""
    model_id = _current(source)
    found = open_store(open_store(source).url(model_id) if model_id else source)
    card = card_from_json(found.read(MODEL_FILE).data, source)
    store = open_store(place)
    for name in (WEIGHTS_FILE, MODEL_FILE, TRAINED_ON_FILE):
        try:
            _settle(store, f"{card.model_id}/{name}", found.read(name).data)
        except FileNotFoundError:
            if name != TRAINED_ON_FILE:
                raise


def switch(place: str, model_id: str, before: str | None) -> None:
    """Make a model of this place the current one, instead of `before` (None: of none) and of no other.

    Raises JobError if another became current since `before` was.
    """
    store, data = open_store(place), f"{model_id}\n".encode()
    try:
        if before is None:
            store.create(CURRENT, data)
            return
        found = store.read(CURRENT)
        if found.data.decode("utf-8", "replace").strip() == before:
            store.replace(CURRENT, data, found.version)
            return
    except (LostRace, FileNotFoundError):
        pass
    if _current(place) != model_id:
        raise JobError(f"{place}: another model became current meanwhile: run the same command again")


def _settle(store: Store, name: str, data: bytes) -> None:
    """Have a file of a model as it should be; writes nothing if it is.

    The same grades may be learnt twice, under other settings: then the last card stands. And a damaged file is mended.
    """
    while True:
        try:
            store.create(name, data)
            return
        except LostRace:
            found = store.read(name)
        if found.data == data:
            return
        try:
            store.replace(name, data, found.version)
            return
        except LostRace:
            continue


def _point(store: Store, model_id: str) -> None:
    data = f"{model_id}\n".encode()
    while True:
        try:
            found = store.read(CURRENT)
            if found.data == data:
                return
            store.replace(CURRENT, data, found.version)
            log.info("%s: model %s follows %s", store.url(), model_id, found.data.decode("utf-8", "replace").strip())
            return
        except FileNotFoundError:
            try:
                store.create(CURRENT, data)
                return
            except LostRace:
                pass
        except LostRace:
            pass
        log.warning("%s: another model was published at this moment; this one comes after it", store.url())


def load(place: str) -> tuple[ModelCard, Hearing]:
    """Card and network, on the CPU in evaluation mode: the current model of a place, or the one whose files lie in it.

    Raises UserError in one line for whatever is not a model.
    """
    model_id = _current(place)
    place = open_store(place).url(model_id) if model_id else place
    card = card_from_json(_read(place, MODEL_FILE), place)
    if card.model_id != (model_id or card.model_id):
        _refuse(place, f"holds model {card.model_id}: copy the folder again or train again")
    data = _read(place, WEIGHTS_FILE)
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        _refuse(place, f"{WEIGHTS_FILE} does not belong to {MODEL_FILE}: copy both again or train again")
    try:
        weights = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a type of number that torch has not
        _refuse(place, f"{WEIGHTS_FILE} is no safetensors file ({_one_line(error)}): train again")
    with torch.device("meta"):  # no memory: a card may ask for any amount of it
        network = card.build()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name, tensor in network.state_dict().items():
        if shapes.pop(name, None) != tuple(tensor.shape) or weights[name].dtype != tensor.dtype:
            _refuse(place, f"{WEIGHTS_FILE} does not fit the network of {MODEL_FILE} (at {name}): train again")
        if not torch.isfinite(weights[name]).all():
            _refuse(place, f"{WEIGHTS_FILE} holds weights that are no numbers (at {name}): train again")
    if shapes:
        _refuse(place, f"{WEIGHTS_FILE} holds weights that its network lacks ({next(iter(shapes))}): train again")
    network = card.build()
    network.load_state_dict(weights)
    return card, network.eval()


def trained_on(place: str) -> TrainedOn | None:
    """What the model that `load` would load was trained on; None where it does not say: models of before do not."""
    model_id = _current(place)
    store = open_store(open_store(place).url(model_id) if model_id else place)
    try:
        return trained_on_from_json(store.read(TRAINED_ON_FILE).data, store.url(TRAINED_ON_FILE))
    except FileNotFoundError:
        return None


def _current(place: str) -> str | None:
    """The id of the current model; None where the two files lie in the place itself."""
    try:
        model_id = open_store(place).read(CURRENT).data.decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    if not _ID.fullmatch(model_id):
        _refuse(place, f"{CURRENT} is damaged (it names {model_id[:40]!r}): write a model id into it or train again")
    return model_id


def _read(place: str, name: str) -> bytes:
    try:
        return open_store(place).read(name).data
    except (FileNotFoundError, IsADirectoryError):
        # Telling these two apart takes a permission (storage.objects.list) that reading a model does not.
        bucket = "no such bucket, or " if place.startswith("gs://") else ""
        _refuse(place, f"{bucket}no {name} there: check the path, or train a model into it first")


def _refuse(place: str, why: str) -> NoReturn:
    raise UserError(f"--model {place}: {why}")


def _one_line(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")
