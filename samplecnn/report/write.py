"""The report job: reads results, writes one page beside them."""

import logging
from datetime import UTC, datetime
from typing import Any

from samplecnn.contract import REPORT_HTML
from samplecnn.errors import UserError
from samplecnn.report.grading import GradesFolder, counts, read_grades, table_data
from samplecnn.report.page import Section, render
from samplecnn.store import Store

log = logging.getLogger(__name__)


def write_report(grades: str | None, evaluation: str | None) -> str:
    """Write report.html beside the grades, or beside the evaluation where no grades are named; returns what to print.

    Raises UserError where there is nothing to report of.
    """
    if grades is None and evaluation is None:
        raise UserError("nothing to report of: give --grades, --evaluation or both")
    sections: list[Section] = []
    data: dict[str, Any] = {}
    store: Store | None = None
    if grades is not None:
        folder = read_grades(grades)
        store = folder.store
        data |= table_data(folder)
        sections.append(_recordings(folder))
    assert store is not None
    made = f"Made at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {store.url()}."
    page = render("Grades of playing", made, sections, data)
    store.put(REPORT_HTML, page)
    return f"report of {len(page) / 1e6:.2f} MB: {store.url(REPORT_HTML)}"


def _recordings(folder: GradesFolder) -> Section:
    best, worst = folder.grades[-1], folder.grades[0]
    sentence = (
        f"Each recording was graded from {best} (best) to {worst} by how it is played. A grade is an aid for people "
        "who listen, not a judge: choose a recording to see which of its moments the grade is made of."
    )
    told = {"counts": counts(folder), "sentence": sentence, "grades": list(reversed(folder.grades))}
    return Section("recordings", "Recordings", "recordings.html", told)
