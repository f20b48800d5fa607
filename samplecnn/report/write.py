"""The report job: reads results, writes one page beside them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from samplecnn.commits import FAILED, OUTCOME, RUN, joined
from samplecnn.contract import LABEL_NEXT_CSV, RECORDING, REPORT_HTML, VERSION
from samplecnn.errors import UserError
from samplecnn.report.clusters import map_data
from samplecnn.report.evaluation import Evaluated, read_evaluation
from samplecnn.report.figures import (
    Drawn,
    drift_figure,
    graders_figure,
    rates_figure,
    reliability_figure,
    risk_figure,
)
from samplecnn.report.grading import GradesFolder, counts, read_grades, table_data
from samplecnn.report.night import Night, inputs_of_segments, label_next, last_night
from samplecnn.report.page import Section, render
from samplecnn.segment_folder import open_segments
from samplecnn.store import Store
from samplecnn.tables import csv_bytes

HEATS = 5  # shades of a confusion matrix


def write_report(grades: str | None, evaluation: str | None, segments: str | None = None, *, png: bool = False) -> str:
    """Write report.html beside the grades, or beside the evaluation where no grades are named; returns what to print.

    segments: those that the model learnt from, which the last run is compared with. png: each figure as a file beside
    it too. Raises UserError where there is nothing to report of.
    """
    if grades is None and evaluation is None:
        raise UserError("nothing to report of: give --grades, --evaluation or both")
    if grades is None and segments is not None:
        raise UserError("--segments: wants --grades with it, whose last run is compared with them")
    stores: list[Store] = []
    sections: list[Section] = []
    drawn: list[Drawn] = []
    data: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    folder = None if grades is None else read_grades(grades)
    training = None if segments is None else inputs_of_segments(open_segments(segments))
    evaluations: list[Evaluated] = []
    if folder is not None:
        stores.append(folder.store)
    if evaluation is not None:
        store, evaluations = read_evaluation(evaluation)
        stores.append(store)
    if folder is not None:
        data |= table_data(folder)
        data["map"] = map_data(folder.segments)
        scores = evaluations[0].scores if len(evaluations) == 1 else None
        night, to_label = last_night(folder, training, scores), label_next(folder)
        data["rows"]["night"] = _of_the_night(folder, night)
        files[LABEL_NEXT_CSV] = csv_bytes(to_label)
        sections.append(_recordings(folder))
        if night is not None:
            drawn += [drift_figure(night)] if night.drifts else []
            told = {"night": night, "figure": drawn[0] if drawn else None, "next": to_label.to_pylist()}
            sections.append(Section("night", "The last run", "night.html", told))
        if len(folder.segments):
            told = {"grades": list(reversed(folder.grades)), "map": data["map"]}
            sections.append(Section("segments", "Every segment", "clusters.html", told))
    if evaluations:
        section, figures = _evaluation(evaluations)
        sections.append(section)
        drawn += figures
    made = f"Made at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {' and '.join(store.url() for store in stores)}."
    files[REPORT_HTML] = render("Grades of playing" if folder else sections[0].title, made, sections, data)
    for figure in drawn if png else ():
        files[f"report-{figure.name}.png"] = figure.png
    for name, content in files.items():
        stores[0].put(name, content)
    return f"report of {len(files[REPORT_HTML]) / 1e6:.2f} MB: {stores[0].url(REPORT_HTML)}"


def _of_the_night(folder: GradesFolder, night: Night | None) -> list[int]:
    """Which rows of the table came in the last run, failures first as there."""
    if night is None:
        return []
    items = folder.state.items
    failed = items.filter(pc.and_(pc.equal(items[RUN], night.run), pc.equal(items[OUTCOME], FAILED)))
    failed_R = pc.is_in(joined(folder.failures, RECORDING, VERSION), value_set=joined(failed, RECORDING, VERSION))
    return [*map(int, failed_R.to_pylist()), *map(int, night.row_R.tolist())]


def _recordings(folder: GradesFolder) -> Section:
    best, worst = folder.grades[-1], folder.grades[0]
    sentence = (
        f"Each recording was graded from {best} (best) to {worst} by how it is played. A grade is an aid for people "
        "who listen, not a judge: choose a recording to see which of its moments the grade is made of."
    )
    told = {"counts": counts(folder), "sentence": sentence, "grades": list(reversed(folder.grades))}
    return Section("recordings", "Recordings", "recordings.html", told)


def _evaluation(evaluations: Sequence[Evaluated]) -> tuple[Section, list[Drawn]]:
    parts: list[dict[str, Any]] = []
    drawn: list[Drawn] = []
    for found in evaluations:
        figures = {
            "graders": graders_figure(found),
            "reliability": reliability_figure(found),
            "risk": risk_figure(found),
        }
        confusion = found.model.confusion
        heat = [[-(-HEATS * count // max(1, sum(row))) for count in row] for row in confusion]
        parts.append({"found": found, "heat": heat, **figures})
        drawn += figures.values()
    rates = rates_figure(evaluations) if len(evaluations) > 1 else None
    drawn += [rates] if rates else []
    title = "How far to trust the grades"
    return Section("trust", title, "evaluation.html", {"parts": parts, "rates": rates}), drawn
