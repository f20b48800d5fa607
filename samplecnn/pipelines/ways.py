"""Which way to train: what the starter makes of the labelled recordings decides, unless the user has (starting.py)."""

import logging
import tempfile
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samplecnn.architecture import plan_for
from samplecnn.batches import thinned
from samplecnn.cross_validation import MOST_ASKED, said_by_starter
from samplecnn.merge import SegmentOutputs
from samplecnn.pipelines.labelled import Labelled, recording_set
from samplecnn.recipe import Way
from samplecnn.starter import Starter, starter_for
from samplecnn.starting import hearing_of, is_deaf, tell_enough

log = logging.getLogger(__name__)

# R labelled recordings.


class Chosen(NamedTuple):
    """A way to train, the starter of it, and what spoke for it: how well that hears what the labels say, "" where
    nobody asked."""

    way: Way
    starter: Starter | None
    why: str = ""


class Chooser:
    """asked: how the user wants a network to be trained; otherwise: how instead, where labels show that the starter
    does not hear what they say; None: that is not left to them. Raises UserError for a network that does not fit the
    segments, and a starter that cannot be taken."""

    def __init__(self, data: Labelled, asked: Way, otherwise: Way | None) -> None:
        settings = data.folder.settings
        starter = starter_for(asked.fit.init, settings.sample_rate, plan_for(settings.segment_samples, asked.network))
        self._data, self._asked, self._otherwise = data, Chosen(asked, starter), otherwise
        self._said: dict[str, SegmentOutputs] = {}
        if starter and otherwise and tell_enough(data.group_CR):
            self._said = _said(data, asked, starter)

    def chosen(self, among: npt.NDArray[np.int64] | None = None) -> Chosen:
        """By these labels (row numbers); None: by all."""
        if not self._said or self._otherwise is None:
            return self._asked
        data = self._data if among is None else self._data.subset(among)
        hearing = hearing_of(
            [self._said.get(name) for name in data.judged], data.grade_R + data.lean_R, data.piece_R, data.group_CR
        )
        why = f"rank correlation of the starter's scores with the labels: {hearing or 'none'}"
        deaf = is_deaf(hearing)
        if among is None:
            rate = self._data.folder.settings.sample_rate
            log.info("%d Hz: %s: training starts from %s", rate, why, "nothing" if deaf else "the starter")
        return Chosen(self._otherwise, None, why) if deaf else self._asked._replace(why=why)


def _said(data: Labelled, way: Way, starter: Starter) -> dict[str, SegmentOutputs]:
    """What the starter makes of recordings, MOST_ASKED at most, by the name of what was judged."""
    asked = data.subset(np.array(thinned(len(data.recordings), MOST_ASKED)))  # no others are read
    log.info("does the starter hear what the labels say? Hearing %d recordings", len(asked.recordings))
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        return said_by_starter(starter, recording_set(asked, folder), way.network, len(data.grades))
