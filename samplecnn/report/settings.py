"""What a report is made of and what it holds; apart from the work, so that --help need not wait for it."""

from dataclasses import dataclass

from samplecnn.flags import flag

OFF, LINK, EMBED = "off", "link", "embed"
NO_REPORT = "write no report.html beside the results"


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What a report holds besides names and figures."""

    audio: str = flag(OFF, "a player in each recording: sound linked, or within the page", choices=(OFF, LINK, EMBED))
    png: bool = flag(False, "write each figure as report-<name>.png too")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The places that a report is made of. segments: those that the model learnt from; filters: what show_filters
    wrote."""

    grades: str | None = None
    evaluation: str | None = None
    segments: str | None = None
    model: str | None = None
    filters: str | None = None
