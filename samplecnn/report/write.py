"""The report job: reads results, writes one page beside them."""

import base64
import logging
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from samplecnn.commits import FAILED, OUTCOME, RUN, joined
from samplecnn.contract import FILTERS_PNG, LABEL_NEXT_CSV, RECORDING, REPORT_HTML, VERSION
from samplecnn.errors import UserError
from samplecnn.flags import flag_name
from samplecnn.inputs import inputs_of_segments, spread_from
from samplecnn.report.audio import addresses, media_source
from samplecnn.report.clusters import map_data
from samplecnn.report.evaluation import Evaluated, read_evaluation
from samplecnn.report.figures import (
    Drawn,
    course_figure,
    drift_figure,
    graders_figure,
    rates_figure,
    reliability_figure,
    risk_figure,
)
from samplecnn.report.grading import GradesFolder, counts, read_grades, table_data
from samplecnn.report.night import Night, label_next, last_night
from samplecnn.report.page import Section, render
from samplecnn.report.settings import OFF, ReportSettings, Sources
from samplecnn.segment_folder import open_segments
from samplecnn.store import Store, open_store
from samplecnn.tables import csv_bytes

if TYPE_CHECKING:
    from samplecnn.model_folder import ModelCard  # which loads torch

log = logging.getLogger(__name__)

HEATS = 5  # shades of a confusion matrix
MADE_AT = re.compile(rb"Made at [-0-9: ]+ UTC")
MOST_UNASKED = 20_000  # recordings: a page of 13 MB


@dataclass
class _Report:
    """What has been gathered. said: lines for a terminal."""

    sections: list[Section] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    media_source: str = "'none'"


def write_report(sources: Sources, settings: ReportSettings | None = None) -> str:
    """Write report.html beside the grades, else beside the evaluation, else beside the model; returns what to print.

    Raises UserError where there is nothing to report of.
    """
    settings = settings or ReportSettings()
    if sources.grades is None and sources.evaluation is None and sources.model is None:
        raise UserError("nothing to report of: give --grades, --evaluation or --model")
    if sources.grades is None and (sources.segments is not None or settings.audio != OFF):
        raise UserError("--segments and --audio: want --grades with them, whose recordings they are about")
    report = _Report()
    stores: list[Store] = []
    evaluations: list[Evaluated] = []
    folder = None if sources.grades is None else read_grades(sources.grades)
    if folder is not None:
        stores.append(folder.store)
    if sources.evaluation is not None:
        store, evaluations = read_evaluation(sources.evaluation)
        stores.append(store)
    card = None
    if sources.model is not None:
        from samplecnn.model_folder import load  # here: torch takes 2 s

        card, _ = load(sources.model)
        stores.append(open_store(sources.model))
    elif sources.filters is not None:
        raise UserError("--filters: wants --model with it, whose filters they are")
    if folder is not None:
        _add_recordings(report, folder, settings)
        _add_night(report, folder, sources.segments, evaluations, card)
        _add_segments(report, folder)
    if evaluations:
        _add_evaluation(report, evaluations)
    if card is not None:
        _add_model(report, card, sources.filters)
    made = f"Made at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {' and '.join(store.url() for store in stores)}."
    title = "Grades of playing" if folder else report.sections[0].title
    report.files[REPORT_HTML] = render(title, made, report.sections, report.data, report.media_source)
    for figure in report.drawn if settings.png else ():
        report.files[f"report-{figure.name}.png"] = figure.png
    for name, content in report.files.items():
        if not _stands(stores[0], name, content):
            stores[0].put(name, content)
    size = len(report.files[REPORT_HTML]) / 1e6
    return "\n".join([*report.said, f"report of {size:.2f} MB: {stores[0].url(REPORT_HTML)}"])


def _stands(store: Store, name: str, content: bytes) -> bool:
    """Is this file there already, but for the time at which it was made? Doing again what is done writes nothing."""
    try:
        there = store.read(name).data
    except (FileNotFoundError, IsADirectoryError):
        return False
    return MADE_AT.sub(b"", there) == MADE_AT.sub(b"", content)


def report_after(sources: Sources, recordings: int = 0) -> str:
    """What a job prints last: its results are written, and now the page of them, or why there is none.

    recordings: how many it would be of; for more than MOST_UNASKED a person must ask.
    """
    named = [(flag_name(name), place) for name, place in vars(sources).items() if place is not None]
    command = " ".join(["python jobs/report.py", *(f"{flag} {shlex.quote(place)}" for flag, place in named)])
    if recordings > MOST_UNASKED:
        return f"no report of {recordings} recordings unasked: {command}"
    try:
        return write_report(sources)
    except Exception as error:  # whatever it is, the job itself has done its work
        log.debug("no report", exc_info=True)
        return f"no report ({error}); what it would be of is written; try again: {command}"


def _add_recordings(report: _Report, folder: GradesFolder, settings: ReportSettings) -> None:
    report.data |= table_data(folder)
    if settings.audio != OFF:
        report.data["rows"]["audio"] = addresses(folder, report.data["rows"]["name"], settings.audio)
        report.media_source = media_source(folder, settings.audio)
    best, worst = folder.grades[-1], folder.grades[0]
    sentence = (
        f"Each recording was graded from {best} (best) to {worst} by how it is played. A grade is an aid for people "
        "who listen, not a judge: choose a recording to see which of its moments the grade is made of. Who hears one "
        "otherwise overrules it, with a reason, and that stands from then on (jobs/correct.py)."
    )
    counted = counts(folder)
    told = {"counts": counted, "sentence": sentence, "grades": list(reversed(folder.grades))}
    report.sections.append(Section("recordings", "Recordings", "recordings.html", told))
    report.said.append(", ".join(f"{count} {name}" for name, count in counted))


def _add_night(
    report: _Report,
    folder: GradesFolder,
    segments: str | None,
    evaluations: Sequence[Evaluated],
    card: "ModelCard | None",
) -> None:
    training: dict[str, npt.NDArray[np.float64]] = {}
    if card:
        with _metrics_of(card):
            training = spread_from(card.metrics)
    if segments is not None:
        training |= inputs_of_segments(open_segments(segments))
    scores = evaluations[0].scores if len(evaluations) == 1 else None
    night, to_label = last_night(folder, training, scores), label_next(folder)
    report.data["rows"]["night"] = _of_the_night(folder, night)
    report.files[LABEL_NEXT_CSV] = csv_bytes(to_label)
    if night is None:
        return
    figure = drift_figure(night) if night.drifts else None
    report.drawn += [figure] if figure else []
    told = {"night": night, "figure": figure, "next": to_label.to_pylist()}
    report.sections.append(Section("night", "The last run", "night.html", told))
    unlike = [drift.sentence for drift in night.drifts if drift.is_unlike]
    report.said += [f"warning: the last run is unlike {night.compared_with}: {sentence}" for sentence in unlike]


def _of_the_night(folder: GradesFolder, night: Night | None) -> list[int]:
    """Which rows of the table came in the last run, failures first as there."""
    if night is None:
        return []
    items = folder.state.items
    failed = items.filter(pc.and_(pc.equal(items[RUN], night.run), pc.equal(items[OUTCOME], FAILED)))
    failed_R = pc.is_in(joined(folder.failures, RECORDING, VERSION), value_set=joined(failed, RECORDING, VERSION))
    return [*map(int, failed_R.to_pylist()), *map(int, night.row_R.tolist())]


def _add_segments(report: _Report, folder: GradesFolder) -> None:
    if len(folder.segments):
        report.data["map"] = map_data(folder.segments)
        told = {"grades": list(reversed(folder.grades)), "map": report.data["map"]}
        report.sections.append(Section("segments", "Every segment", "clusters.html", told))


def _add_evaluation(report: _Report, evaluations: Sequence[Evaluated]) -> None:
    parts: list[dict[str, Any]] = []
    for found in evaluations:
        figures = {
            "graders": graders_figure(found),
            "reliability": reliability_figure(found),
            "risk": risk_figure(found),
        }
        confusion = found.model.confusion
        heat = [[-(-HEATS * count // max(1, sum(row))) for count in row] for row in confusion]
        parts.append({"found": found, "heat": heat, **figures})
        report.drawn += figures.values()
    rates = rates_figure(evaluations) if len(evaluations) > 1 else None
    report.drawn += [rates] if rates else []
    told = {"parts": parts, "rates": rates}
    report.sections.append(Section("trust", "How far to trust the grades", "evaluation.html", told))


@contextmanager
def _metrics_of(card: "ModelCard") -> Iterator[None]:
    """Raises UserError where a model says things of itself that are none. They are no part of what it is (model_id)."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"model {card.model_id}: its metrics are damaged ({error!r}): train it again") from None


def _add_model(report: _Report, card: "ModelCard", filters: str | None) -> None:
    """How the model was trained, and what its filters listen for."""
    with _metrics_of(card):
        history = card.metrics.get("history", [])
        course = course_figure(history) if history else None
    report.drawn += [course] if course else []
    picture = None
    if filters is not None:
        try:
            picture = open_store(filters).read(FILTERS_PNG).data
        except FileNotFoundError:
            raise UserError(f"--filters {filters}: no {FILTERS_PNG} there: run scripts/show_filters.py first") from None
    told = {
        "card": card,
        "recordings": card.metrics.get("recordings", "some"),
        "merge": card.metrics.get("merge", card.merge),
        "course": course,
        "filters": picture and "data:image/png;base64," + base64.b64encode(picture).decode(),
    }
    report.sections.append(Section("model", "The model", "model.html", told))
