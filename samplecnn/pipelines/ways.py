"""Which way to train: what the starter makes of the labelled recordings decides, unless the user has (starting.py)."""

import logging
import tempfile
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samplecnn.architecture import plan_for
from samplecnn.cross_validation import said_by_starter
from samplecnn.merge import SegmentOutputs
from samplecnn.pipelines.labelled import Labelled, recording_set
from samplecnn.recipe import Way
from samplecnn.starter import Starter, starter_for
from samplecnn.starting import LEAST_HEARD, MOST_HEARD, hearing_of, is_deaf

log = logging.getLogger(__name__)

# R labelled recordings.


class Chosen(NamedTuple):
    """A way to train, and the starter of it."""

    way: Way
    starter: Starter | None


class Ways:
    """asked: how the user wants a network to be trained; otherwise: how instead, where labels show that the starter
    does not hear what they say; None: that is not left to them. Raises UserError for a network that does not fit the
    segments, and a starter that cannot be taken."""

    def __init__(self, data: Labelled, asked: Way, otherwise: Way | None) -> None:
        settings = data.folder.settings
        starter = starter_for(asked.fit.init, settings.sample_rate, plan_for(settings.segment_samples, asked.network))
        self._data, self._asked, self._otherwise = data, Chosen(asked, starter), otherwise
        undecided = otherwise and len(data.recordings) >= LEAST_HEARD
        self._said_R = _said(data, asked, starter) if starter and undecided else None

    def chosen(self, among: npt.NDArray[np.int64] | None = None) -> Chosen:
        """By these labels (row numbers); None: by all."""
        if self._said_R is None or self._otherwise is None:
            return self._asked
        rows = np.arange(len(self._said_R)) if among is None else among
        data = self._data.subset(rows)
        hearing = hearing_of(
            [self._said_R[row] for row in rows.tolist()], data.grade_R + data.lean_R, data.piece_R, data.group_CR
        )
        if not is_deaf(hearing):
            return self._asked
        if among is None:
            log.warning(
                "the starter does not hear what these labels say (rank correlation %s): training starts from nothing",
                hearing,
            )
        return Chosen(self._otherwise, None)


def _said(data: Labelled, way: Way, starter: Starter) -> list[SegmentOutputs | None]:
    """What the starter makes of each recording, None where nothing is heard. More than MOST_HEARD are thinned out
    evenly."""
    rows = np.arange(0, len(data.recordings), -(-len(data.recordings) // MOST_HEARD))
    chosen, said_R = data.subset(rows), list[SegmentOutputs | None]([None]) * len(data.recordings)
    row = {name: int(i) for name, i in zip(chosen.judged, rows, strict=True)}
    log.info("hearing %d recordings: does the starter hear what their labels say?", len(rows))
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = recording_set(chosen, folder)
        for name, one in zip(
            recordings.names, said_by_starter(starter, recordings, way.network, len(data.grades)), strict=True
        ):
            said_R[row[name]] = one
    return said_R
