"""The report's still figures, drawn by matplotlib: pictures within the page, and files on request.

Dark against grey rather than hue against hue: they read the same in print and for the colour-blind.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator

from samplecnn.report.evaluation import MEASURES, Evaluated
from samplecnn.report.night import Night

INK, GREY, LIGHT = "#0b4f9e", "#6b7480", "#c3c9d1"
NAMES = {"accuracy": "accuracy", "kappa": "kappa", "mae": "mean distance (grades)"}


@dataclass(frozen=True)
class Drawn:
    """A figure of the page. name: of its file; alt: what it shows, for those who do not see it; caption: how to read
    it."""

    name: str
    figure: Figure
    alt: str
    caption: str

    @property
    def source(self) -> str:
        """As the address of an image: SVG within the page, the same bytes for the same figure."""
        sink = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):
            self.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
        return "data:image/svg+xml;base64," + base64.b64encode(sink.getvalue()).decode()

    @property
    def png(self) -> bytes:
        """As a file, for slides and letters."""
        sink = io.BytesIO()
        self.figure.savefig(sink, format="png", dpi=160)
        return sink.getvalue()


def graders_figure(found: Evaluated) -> Drawn:
    """Each grader's accuracy, kappa and mean distance with intervals, the model last and dark."""
    figure = Figure(figsize=(9, 0.9 + 0.28 * len(found.graders)), layout=ConstrainedLayoutEngine(wspace=0.08))
    axes: Sequence[Axes] = figure.subplots(1, len(MEASURES), sharey=True)
    for axis, measure in zip(axes, MEASURES, strict=True):
        for row, grader in enumerate(found.graders):
            value = grader.figures[measure]
            colour = INK if grader.is_model else GREY
            axis.plot([value.low, value.high], [row, row], color=colour, linewidth=2.5 if grader.is_model else 1.2)
            axis.plot(value.value, row, "o", color=colour, markersize=7 if grader.is_model else 5)
        if measure == "kappa":
            axis.axvspan(-1, found.chance_kappa, color=LIGHT, alpha=0.4, linewidth=0)
            axis.set_xlim(min(-0.2, *(g.figures[measure].low for g in found.graders)), 1.02)
        axis.set_title(NAMES[measure], fontsize=10)
        axis.grid(axis="x", color=LIGHT, linewidth=0.5)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].yaxis.set_major_locator(FixedLocator(range(len(found.graders))))
    axes[0].set_yticklabels([grader.name for grader in found.graders])
    axes[0].invert_yaxis()
    model = found.model
    kappa = model.figures["kappa"]
    alt = f"Accuracy, kappa and mean distance of {len(found.graders)} graders; {model.name}: kappa {kappa}"
    caption = (
        "Dots are the figures, lines their 95 % intervals; the model is dark. Right is better for accuracy and kappa, "
        f"left for the mean distance. In the grey area (a kappa up to {found.chance_kappa:.2f}) nothing can be told "
        "from chance."
    )
    return Drawn(f"graders-{found.sample_rate}", figure, alt, caption)


def reliability_figure(found: Evaluated) -> Drawn:
    """How often grades of a confidence are right."""
    figure, axis = _square("confidence", "share graded right")
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for part in found.reliability:
        axis.plot([part.confidence] * 2, [part.right.low, part.right.high], color=INK, linewidth=1.5)
        axis.plot(part.confidence, part.right.value, "o", color=INK)
    told = "; ".join(f"of confidence {part.confidence:.2f} {part.right} are right" for part in found.reliability)
    alt = f"Reliability: {told or 'too few recordings'}"
    return Drawn(
        f"reliability-{found.sample_rate}",
        figure,
        alt,
        "Is a confidence of 0.7 right seven times in ten? Then its dot lies on the broken line. "
        "Each dot is a group of recordings of about one confidence, with the 95 % interval of its share.",
    )


def risk_figure(found: Evaluated) -> Drawn:
    """How many errors remain if only the surest recordings are graded."""
    figure, axis = _square("share of the recordings that are graded", "share of these graded wrong")
    for grader in found.graders:
        colour, width = (INK, 2.2) if grader.is_model else (GREY, 0.7)
        axis.plot(grader.coverage, grader.error_rate, color=colour, linewidth=width, zorder=3 if grader.is_model else 2)
    model = found.model
    pairs = list(zip(model.coverage, model.error_rate, strict=True))
    half = next((error for coverage, error in pairs if coverage >= 0.5), None)
    alt = "Risk and coverage of the model"
    if half is not None:
        alt += f": {half:.2f} wrong among the surer half, {model.error_rate[-1]:.2f} among all"
    return Drawn(
        f"risk-{found.sample_rate}",
        figure,
        alt,
        "Errors among the surest recordings, for every number of them. A line that rises to the right knows what it "
        "does not know: leaving the unsure ones to a person pays. The model is dark, the baselines are thin.",
    )


def rates_figure(evaluations: Sequence[Evaluated]) -> Drawn:
    """The model's kappa at each sample rate of a sweep."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for found in evaluations:
        value = found.model.figures["kappa"]
        axis.plot([found.sample_rate] * 2, [value.low, value.high], color=INK, linewidth=1.5)
        axis.plot(found.sample_rate, value.value, "o", color=INK)
    rates = [found.sample_rate for found in evaluations]
    axis.set(xscale="log", xlabel="sample rate (Hz)", ylabel="kappa")
    axis.xaxis.set_major_locator(FixedLocator(rates))
    axis.xaxis.set_minor_locator(FixedLocator([]))
    axis.set_xticklabels([str(rate) for rate in rates])
    axis.grid(color=LIGHT, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    told = "; ".join(f"{found.sample_rate} Hz {found.model.figures['kappa']}" for found in evaluations)
    caption = "The model's kappa by the rate that it hears the recordings at, with 95 % intervals."
    return Drawn("rates", figure, f"Kappa by sample rate: {told}", caption)


def course_figure(history: Sequence[Mapping[str, Any]]) -> Drawn:
    """The learning curve of a training. history: one entry an epoch, as model.json has it."""
    figure = Figure(figsize=(9, 2.8), layout=ConstrainedLayoutEngine(wspace=0.08))
    loss, agreement = figure.subplots(1, 2)
    epochs = [int(told["epoch"]) for told in history]
    loss.plot(epochs, [told["train_loss"] for told in history], color=GREY, linewidth=1.2, label="learnt from")
    loss.plot(epochs, [told["valid_loss"] for told in history], color=INK, linewidth=2, label="held out")
    agreement.plot(epochs, [told["valid_kappa"] for told in history], color=INK, linewidth=2)
    best = [told for told in history if told["best"]][-1:]
    for axis, name in ((loss, "valid_loss"), (agreement, "valid_kappa")):
        axis.plot([told["epoch"] for told in best], [told[name] for told in best], "o", color=INK)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axis.grid(color=LIGHT, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    loss.set_title("loss", fontsize=10)
    loss.legend(frameon=False)
    agreement.set_title("kappa of those held out", fontsize=10)
    kept = f"; epoch {best[0]['epoch']} of {len(history)} was kept" if best else ""
    alt = f"Learning curve: loss of recordings learnt from and held out by epoch{kept}"
    caption = (
        "The dot is the epoch that was kept. Where the broad line rises and the thin one falls, it learns by heart."
    )
    return Drawn("training", figure, alt, caption)


def drift_figure(night: Night) -> Drawn:
    """The last run's measures beside those before."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    axes = figure.subplots(1, len(night.drifts), squeeze=False)[0]
    for axis, drift in zip(axes, night.drifts, strict=True):
        bins = np.histogram_bin_edges(np.concatenate([drift.tonight, drift.before]), _bins(len(drift.tonight)))
        for values, colour, width in ((drift.before, GREY, 1.2), (drift.tonight, INK, 2)):
            share = np.histogram(values, bins)[0] / len(values)
            axis.stairs(
                share, bins, color=colour, linewidth=width, fill=colour == GREY, alpha=0.5 if colour == GREY else 1
            )
        axis.set_title(drift.name + (" (!)" if drift.is_unlike else ""), fontsize=10)
        axis.set_xlabel(drift.unit or " ")
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    alt = "; ".join(drift.sentence for drift in night.drifts)
    caption = f"The last run as a dark line, grey behind it {night.compared_with}: share of the recordings."
    return Drawn("drift", figure, alt, caption)


def _bins(recordings: int) -> int:
    """Of a histogram: few for few, or most would be empty."""
    return int(np.clip(np.sqrt(recordings), 4, 15))


def _square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axis.grid(color=LIGHT, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
