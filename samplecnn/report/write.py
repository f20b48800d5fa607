"""The report job: reads results, writes one page beside them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from samplecnn.contract import REPORT_HTML
from samplecnn.errors import UserError
from samplecnn.report.evaluation import Evaluated, read_evaluation
from samplecnn.report.figures import Drawn, graders_figure, rates_figure, reliability_figure, risk_figure
from samplecnn.report.grading import GradesFolder, counts, read_grades, table_data
from samplecnn.report.page import Section, render
from samplecnn.store import Store

HEATS = 5  # shades of a confusion matrix


def write_report(grades: str | None, evaluation: str | None, *, png: bool = False) -> str:
    """Write report.html beside the grades, or beside the evaluation where no grades are named; returns what to print.

    png: each figure as a file beside it too. Raises UserError where there is nothing to report of.
    """
    if grades is None and evaluation is None:
        raise UserError("nothing to report of: give --grades, --evaluation or both")
    stores: list[Store] = []
    sections: list[Section] = []
    drawn: list[Drawn] = []
    data: dict[str, Any] = {}
    if grades is not None:
        folder = read_grades(grades)
        stores.append(folder.store)
        data |= table_data(folder)
        sections.append(_recordings(folder))
    if evaluation is not None:
        store, evaluations = read_evaluation(evaluation)
        stores.append(store)
        section, figures = _evaluation(evaluations)
        sections.append(section)
        drawn += figures
    made = f"Made at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {' and '.join(store.url() for store in stores)}."
    page = render("Grades of playing" if grades else "How far to trust the grades", made, sections, data)
    for figure in drawn if png else ():
        stores[0].put(f"report-{figure.name}.png", figure.png)
    stores[0].put(REPORT_HTML, page)
    return f"report of {len(page) / 1e6:.2f} MB: {stores[0].url(REPORT_HTML)}"


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
