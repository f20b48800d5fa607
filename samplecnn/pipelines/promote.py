"""promote: compare a candidate with the current model, grade the last nights' recordings in the shadow, and let the
candidate take over if it is not worse, or if a person says why.

In one process, recording after recording (grade_few.py), as it is done once a model and on held-out recordings alone.
Everything is kept under conditions: the candidate's files first, then the decision, the pointer `current` last.
"""

import logging
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from samplecnn import grades_folder, model_folder
from samplecnn.commits import STAMP, CommitLog, standing
from samplecnn.contract import (
    CORRECTED_BY,
    GRADABLE,
    GRADE,
    GRADED_AT,
    MACHINE_GRADE,
    MARK,
    METRICS_JSON,
    PREDICTED,
    PREDICTED_MARK,
    PREDICTIONS_CSV,
    RECORDING,
    SAMPLE_RATE,
    is_recording_name,
    spell_name,
)
from samplecnn.errors import LostRace, RecordingError, UserError
from samplecnn.evaluation import of_the_model
from samplecnn.hearing import Hearing
from samplecnn.labels import Label, LabelSettings, groups_of, join, read_labels
from samplecnn.metrics import LEAST_GROUPS
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.grade_few import OneByOne
from samplecnn.pipelines.progress import counted
from samplecnn.promotion import (
    LEAST_RECORDINGS,
    NO_GRADE,
    Change,
    Comparison,
    PromotionSettings,
    Shadow,
    compare,
    compare_marks,
    decision,
)
from samplecnn.store import Entry, Store, open_store, read_file
from samplecnn.tables import read_csv
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

HELD_OUT = "recordings that neither model was trained on"
CROSS_VALIDATED = "recordings that cross-validation held out of both recipes"
NEEDED = f"{LEAST_RECORDINGS} are needed, of two grades or more, in {LEAST_GROUPS} groups or more (--group)"


@dataclass(frozen=True)
class Evidence:
    """What a candidate may be looked at by: places, each None where it was not given."""

    recordings: str | None = None
    labels: str | None = None
    grades: str | None = None
    evaluation: str | None = None
    current_evaluation: str | None = None


@dataclass(frozen=True)
class _Model:
    """A loaded model and where it lies."""

    place: str
    card: ModelCard
    network: Hearing


class _Stated(NamedTuple):
    """What a model says of a recording: the grade's index, and the mark in the jury's range where it tells one."""

    grade: int
    mark: float | None


def promote(
    candidate: str,
    models: str,
    evidence: Evidence,
    settings: PromotionSettings,
    tell: Callable[[str], None],
) -> bool:
    """Let a candidate take over the place of models, or not; returns whether it is the current model now.

    settings: with a `why` it takes over whatever is found, and nothing needs to be found. tell: takes lines for people.
    Raises UserError where nothing can be compared, JobError where another model became current meanwhile.
    """
    new = _Model(candidate, *model_folder.load(candidate))
    store, new_id = open_store(models), new.card.model_id
    current_id = model_folder.current_id(models)
    if current_id == new_id:
        tell(f"{models}: model {new_id} is the current one already: nothing to do")
        return True
    comparison, shadow = None, None
    if current_id is not None:
        current = _Model(models, *model_folder.load(models))
        if new.card.grades != current.card.grades:
            theirs, ours = (",".join(reversed(card.grades)) for card in (current.card, new.card))
            raise UserError(f"--candidate {candidate}: gives {ours}, the current model {theirs}: use another --models")
        comparison = _compared(new, current, evidence, settings, needed=not settings.why)
        if comparison:
            tell(f"{new_id} against {current_id}, on {comparison}")
        if current.card.marks and not new.card.marks:
            tell(f"{new_id} tells no marks, {current_id} does: train it with --evaluation and labels that give marks")
        if evidence.grades:
            shadow = _shadow(new, evidence, settings)
            for line in shadow.lines():
                tell(line)
    moved = current_id is None or bool(settings.why) or (comparison is not None and comparison.may_take_over)
    model_folder.adopt(candidate, models)
    name, data = decision(new_id, current_id, comparison, shadow, moved, settings.why, datetime.now(UTC))
    with suppress(LostRace):  # found and decided before
        store.create(f"{new_id}/{name}", data)
    kept = f"the decision is in {store.url(f'{new_id}/{name}')}"
    if not moved:
        tell(f'{models}: model {current_id} stays; {kept}; --force --why "..." moves it all the same')
        return False
    model_folder.switch(models, new_id, current_id)
    tell(f"{models}: model {new_id} follows {current_id or 'none'}; {kept}")
    if current_id:
        places = f"--candidate {shlex.quote(store.url(current_id))} --models {shlex.quote(models)}"
        back = f'python jobs/promote.py {places} --force --why "..."'
        tell(f"to go back: {back}")
    return True


def _compared(
    new: _Model, current: _Model, evidence: Evidence, settings: PromotionSettings, needed: bool
) -> Comparison | None:
    """On recordings that neither model was trained on if there are enough, else by both cross-validations.

    None where there is neither and it is not needed.
    """
    if evidence.labels is None:
        if needed:
            raise UserError("--labels and --recordings are needed to compare by, or --force with --why (see --help)")
        return None
    names = ",".join(reversed(new.card.grades))
    label_settings = LabelSettings(
        grades=names,
        group=settings.group,
        cuts=settings.cuts,
        mark_best=settings.mark_best,
        mark_range=settings.mark_range,
    )
    labels = read_labels(read_file(evidence.labels, "--labels"), evidence.labels, label_settings).labels
    comparison, lacking = None, "no --recordings were given"
    if evidence.recordings is not None:
        comparison, lacking = _held_out(new, current, evidence.recordings, labels)
    if comparison is None and evidence.evaluation and evidence.current_evaluation:
        comparison, lacking = _cross_validated(new, current, evidence, labels)
    if comparison is None and needed:
        raise UserError(
            f"{lacking}: label more that neither learnt from, or give --evaluation and --current-evaluation of the "
            "same labels, or --force with --why"
        )
    return comparison


def _held_out(new: _Model, current: _Model, recordings: str, labels: Sequence[Label]) -> tuple[Comparison | None, str]:
    """(the comparison, or why there is none)."""
    trained = [model_folder.trained_on(model.place) for model in (new, current)]
    for model, known in zip((new, current), trained, strict=True):
        if known is None:
            again = "run the command that trained it once more, which adds that and trains nothing"
            return None, f"model {model.card.model_id} does not say what it was trained on ({again})"
    source = open_store(recordings)
    entries = {spell_name(entry.name): entry for entry in source.list() if is_recording_name(entry.name)}
    if not entries:
        raise UserError(f"--recordings {recordings}: no recordings there: check the path")
    labelled = join(labels, entries).alone()
    held = [
        name
        for name in sorted(labelled)
        if not any(known and known.holds(name, _version(source, entries[name])) for known in trained)
    ]
    few = f"labelled recordings that neither model was trained on are there, {NEEDED}"
    if not _enough([labelled[name] for name in held]):  # known before anything is heard
        return None, f"{len(held)} {few}"
    heard = _stated(source, [(name, entries[name]) for name in held], new, current)
    comparison = _paired(HELD_OUT, {name: labelled[name] for name in heard}, heard)
    return comparison, f"{len(heard)} {few}"


def _version(source: Store, entry: Entry) -> str:
    return entry.version or source.version_of(entry.name)


def _stated(
    source: Store, found: Sequence[tuple[str, Entry]], new: _Model, current: _Model
) -> dict[str, tuple[_Stated, _Stated]]:
    """What both models state of each recording, however unsure they are; without those that either cannot hear."""
    heard: dict[str, tuple[_Stated, _Stated]] = {}
    with ExitStack() as stack:
        both = [
            stack.enter_context(OneByOne(replace(model.card, least_confidence=0.0), model.network))
            for model in (new, current)
        ]
        for name, entry in counted(found, " recording"):
            try:
                said = [one.grade(source, entry)[0].columns(one.card) for one in both]
            except RecordingError as error:
                log.warning("%s: left out: %s", name, error)
                continue
            if said[0][GRADABLE] and said[1][GRADABLE]:
                place = {grade: index for index, grade in enumerate(new.card.grades)}
                one, other = (_Stated(place[told[GRADE]], told[MARK]) for told in said)
                heard[name] = one, other
    return heard


def _cross_validated(
    new: _Model, current: _Model, evidence: Evidence, labels: Sequence[Label]
) -> tuple[Comparison | None, str]:
    assert evidence.evaluation
    assert evidence.current_evaluation
    said = _out_of_fold(evidence.evaluation, new.card, "--evaluation")
    before = _out_of_fold(evidence.current_evaluation, current.card, "--current-evaluation")
    labelled = join(labels, said.keys() & before.keys()).alone()
    heard = {name: (said[name], before[name]) for name in labelled}
    comparison = _paired(CROSS_VALIDATED, labelled, heard)
    return comparison, f"both evaluations have {len(heard)} labelled recordings, {NEEDED}"


def _out_of_fold(place: str, card: ModelCard, flag: str) -> dict[str, _Stated]:
    """What cross-validation stated of each recording. Raises UserError if it was not of this model."""
    root = place.rstrip("/")
    told = read_file(f"{root}/{METRICS_JSON}", flag)
    try:
        measured = [of_the_model(one) for one in read_json(told)["evaluations"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{flag} {place}: {METRICS_JSON} is damaged ({error!r}): evaluate again") from None
    if card.metrics.get("evaluation") not in measured:
        raise UserError(f"{flag} {place}: is not the evaluation that model {card.model_id} was trained with")
    rows = read_csv(read_file(f"{root}/{PREDICTIONS_CSV}", flag), f"{place}/{PREDICTIONS_CSV}")
    index = {grade: i for i, grade in enumerate(card.grades)}
    try:
        return {
            row[RECORDING]: _Stated(index[row[PREDICTED]], float(mark) if (mark := row.get(PREDICTED_MARK)) else None)
            for row in rows
            if row[SAMPLE_RATE] == str(card.settings.sample_rate)
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"{flag} {place}: {PREDICTIONS_CSV} is damaged ({error!r}): evaluate again") from None


def _enough(labels: Sequence[Label]) -> bool:
    """Are they what is NEEDED?"""
    many = len(labels) >= LEAST_RECORDINGS and len({label.grade for label in labels}) > 1
    return many and min(len(set(group_R)) for group_R in groups_of(labels)) >= LEAST_GROUPS


def _paired(basis: str, labelled: dict[str, Label], heard: dict[str, tuple[_Stated, _Stated]]) -> Comparison | None:
    """None where they are not what is NEEDED."""
    names = sorted(heard)
    given_R = np.array([labelled[name].grade for name in names], np.int64)
    if not _enough([labelled[name] for name in names]):
        return None
    candidate_R, current_R = (np.array([heard[name][i].grade for name in names], np.int64) for i in (0, 1))
    group_CR = groups_of([labelled[name] for name in names])
    said = [(labelled[name].mark, heard[name][0].mark, heard[name][1].mark) for name in names]
    marks = None
    if not any(None in three for three in said):
        given_mark_R, candidate_mark_R, current_mark_R = np.array(said, np.float64).T
        marks = compare_marks(given_mark_R, candidate_mark_R, current_mark_R, group_CR)
    return compare(basis, given_R, candidate_R, current_R, group_CR, marks)


def _shadow(new: _Model, evidence: Evidence, settings: PromotionSettings) -> Shadow:
    """What the candidate says of what was graded in the last nights; nothing is written."""
    assert evidence.grades
    if evidence.recordings is None:
        raise UserError("--grades: wants --recordings with it, to hear them")
    source, target = open_store(evidence.recordings), open_store(evidence.grades)
    state = CommitLog(target, "grades").state()
    if state.settings is None:
        raise UserError(f"--grades {evidence.grades}: no grades there")
    if state.settings["recordings"] != source.root:
        raise UserError(f"--grades {evidence.grades}: are of {state.settings['recordings']}, not of --recordings")
    if grades_folder.grades_of(state) != new.card.grades:
        raise UserError(f"--grades {evidence.grades}: are other grades than the candidate gives")
    rows = grades_folder.latest(target, state, new.card.grades)
    if not len(rows):
        return Shadow(settings.nights, 0, 0, [])
    since = pc.max(rows[GRADED_AT]).as_py() - timedelta(days=settings.nights)
    last = [row for row in rows.to_pylist() if row[GRADED_AT] >= since]
    here = standing(state)
    stamps = dict(zip(here[RECORDING].to_pylist(), here[STAMP].to_pylist(), strict=True))
    entries = {spell_name(entry.name): entry for entry in source.list()}
    todo = [
        (row, entry)
        for row in last
        if row[CORRECTED_BY] is None
        and (entry := entries.get(row[RECORDING])) is not None
        and entry.stamp == stamps.get(row[RECORDING])
    ]
    heard, changes = 0, []
    with OneByOne(new.card, new.network) as one:
        for row, entry in counted(todo, " recording"):
            try:
                said = one.grade(source, entry)[0]
            except RecordingError as error:
                log.warning("%s: left out: %s", row[RECORDING], error)
                continue
            heard += 1
            before = row[MACHINE_GRADE] or NO_GRADE
            after = NO_GRADE if said.grade is None else new.card.grades[said.grade]
            if after != before:
                changes.append(Change(row[RECORDING], before, after))
    return Shadow(settings.nights, heard, len(last) - heard, changes)
