"""Segments and labels joined for training and evaluation, with what falls through named in the log."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.batches import RecordingSet, read_recordings
from samplecnn.contract import DURATION_S, RECORDING, VERSION
from samplecnn.errors import UserError
from samplecnn.flags import settings_dict
from samplecnn.labels import Label, LabelSettings, groups_of, join, judged_names, read_labels, require_gradable
from samplecnn.marks import GivenMarks
from samplecnn.pipelines.runtime import some_names
from samplecnn.raters import Agreement
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.segment_folder import SegmentsFolder, open_segments
from samplecnn.starter import Starter
from samplecnn.store import read_file

log = logging.getLogger(__name__)

PART_SLACK_S = 0.5  # people round the end of a recording up


@dataclass(frozen=True)
class Labelled:
    """The recordings that have both segments and a label, by name, those with several judged parts once for each;
    grade_R: index, 0 = worst.

    lean_R: how far each lies towards the next grade; group_CR: their groups by each column that splits keep apart; the
    first one's is the one that training parts by.
    weight_R: how much each counts in training; agreement: of the raters, where there are several; marks: where
    people gave any; part_R: start and end, in s, of what was judged, None: the whole; piece_R: what is played, "" where
    that is not said.
    """

    folder: SegmentsFolder
    recordings: list[str]
    versions: list[str]
    grade_R: npt.NDArray[np.int64]
    group_CR: list[list[str]]
    lean_R: npt.NDArray[np.float64]
    weight_R: npt.NDArray[np.float64]
    grades: tuple[str, ...]
    agreement: Agreement | None
    marks: GivenMarks | None = None
    part_R: list[tuple[float, float] | None] = field(default_factory=list)
    piece_R: list[str] = field(default_factory=list)

    @property
    def judged(self) -> list[str]:
        """A name for each label, the recording's own unless it has several."""
        return judged_names(zip(self.recordings, self.part_R, strict=True))

    def subset(self, rows: npt.NDArray[np.int64]) -> "Labelled":
        """Some of them, by row number, without what is said of all."""
        return replace(
            self,
            recordings=[self.recordings[i] for i in rows],
            versions=[self.versions[i] for i in rows],
            grade_R=self.grade_R[rows],
            group_CR=[[group_R[i] for i in rows] for group_R in self.group_CR],
            lean_R=self.lean_R[rows],
            weight_R=self.weight_R[rows],
            agreement=None,
            marks=None,
            part_R=[self.part_R[i] for i in rows],
            piece_R=[self.piece_R[i] for i in rows],
        )

    def fingerprint(
        self, network: NetworkSettings, fit: FitSettings, starter: Starter | None, seed: int | None = None
    ) -> str:
        """A hash of the data and of what is done with it: equal means that the same model would come out, or, without
        a seed, one that was trained in the same way."""
        rows = [
            list(row) for row in zip(self.recordings, self.versions, self.grade_R.tolist(), *self.group_CR, strict=True)
        ]
        how = {**settings_dict(fit), "init": starter.id if starter else NO_STARTER}
        if not fit.train_on_all:  # a fingerprint is what it was before there was the choice
            del how["train_on_all"]
        whole: dict[str, Any] = {
            "recordings": rows,
            "grades": self.grades,
            "segments": settings_dict(self.folder.settings),
            "network": {
                "name": network.network,
                "plan": asdict(plan_for(self.folder.settings.segment_samples, network)),
                "head": network.head,
            },
            "fit": how,
            "seed": seed,
        }
        if self.agreement:  # without raters a fingerprint is what it was before there were any
            whole["weights"] = self.weight_R.tolist()
        if self.lean_R.any():
            whole["leans"] = self.lean_R.tolist()
        if any(self.part_R):
            whole["parts"] = self.part_R
        if any(self.piece_R):
            whole["pieces"] = self.piece_R
        if self.marks:
            scale = self.marks.scale
            whole["marks"] = [self.marks.mark_R.tolist(), scale.best, str(scale.least), str(scale.most)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def labelled(segments: str, labels: str, settings: LabelSettings) -> Labelled:
    """Join a segments folder and a labels file.

    Raises UserError where either is missing or wrong, or where too little is left to learn from. A label without
    segments and segments without a label are reported and are no error: the second can still be graded.
    """
    folder = open_segments(segments)
    told = read_labels(read_file(labels, "--labels"), labels, settings)
    joined = join(told.labels, folder.recordings[RECORDING].to_pylist())
    if joined.missing:
        names = some_names(joined.missing)
        log.warning("%d labels have no segments in %s and are left out: %s", len(joined.missing), segments, names)
    if joined.unlabelled:
        log.info("%d recordings have no label: %s", len(joined.unlabelled), some_names(joined.unlabelled))
    require_gradable(joined.labels, settings, labels)
    version = dict(zip(folder.recordings[RECORDING].to_pylist(), folder.recordings[VERSION].to_pylist(), strict=True))
    _require_parts_within(joined.labels, folder, labels)
    told_R = [(name, label) for name in sorted(joined.labels) for label in joined.labels[name]]
    label_R = [label for _, label in told_R]
    return Labelled(
        folder=folder,
        recordings=[name for name, _ in told_R],
        versions=[version[name] for name, _ in told_R],
        grade_R=np.array([label.grade for label in label_R], dtype=np.int64),
        group_CR=groups_of(label_R),
        lean_R=np.array([label.lean for label in label_R]),
        weight_R=np.array([label.weight for label in label_R]),
        grades=settings.names,
        agreement=told.agreement,
        part_R=[label.part for label in label_R],
        piece_R=[label.piece for label in label_R],
        marks=_marks([label.mark for label in label_R], settings),
    )


def recording_set(data: Labelled, folder: str) -> RecordingSet:
    """The labelled recordings, rebuilt into a file in `folder`."""
    labels: dict[str, list[Label]] = {}
    told = (data.grade_R, data.group_CR[0], data.lean_R, data.weight_R, data.part_R)
    for name, grade, group, lean, weight, part in zip(data.recordings, *told, strict=True):
        label = Label(name, int(grade), group, lean=float(lean), weight=float(weight), part=part)
        labels.setdefault(name, []).append(label)
    return read_recordings(data.folder.filesystem, data.folder.paths, labels, data.folder.settings, folder)


def lacking(recordings: RecordingSet) -> str:
    """Why nothing can be learnt from these; "" where something can."""
    if len(set(recordings.grade_R.tolist())) >= 2:
        return ""
    silent, all_of_them = len(recordings.left_out), len(recordings.left_out) + len(recordings)
    return (
        f"{silent} of {all_of_them} labelled recordings hold too little playing, and the others are of less than two "
        "grades: label more, or prepare again with shorter segments (--segment-s) or a higher --sample-rate"
    )


def _require_parts_within(labels: dict[str, list[Label]], folder: SegmentsFolder, place: str) -> None:
    """Raises UserError where a part is judged that a recording has not."""
    durations = zip(*(folder.recordings[name].to_pylist() for name in (RECORDING, DURATION_S)), strict=True)
    for name, duration_s in durations:
        last = labels[name][-1].part if name in labels else None
        if last and last[1] > duration_s + PART_SLACK_S:
            raise UserError(f"{place}: the part of {name!r} ends at {last[1]:g} s, the recording at {duration_s:.1f} s")


def _marks(given: list[float | None], settings: LabelSettings) -> GivenMarks | None:
    """All recordings have a mark, or none has (read_labels)."""
    if None in given:
        return None
    return GivenMarks(np.array(given, np.float64), settings.marks())
