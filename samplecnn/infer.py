"""From the windows of one recording to its grade.

Bit for bit the same on one kind of CPU and one number of threads, whatever else is graded: every batch has one constant
size, the last one filled with silence, and holds windows of one recording only. Tried on torch 2.13: what the other
rows of a batch hold never changed a bit; the row's place in the batch did for a very small network, the batch size for
all and the number of threads for most. So grade with one thread everywhere (hearing.own_threads).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samplecnn.contract import (
    CONFIDENCE,
    GRADABLE,
    GRADE,
    MARK,
    MARK_HIGH,
    MARK_LOW,
    PIECE,
    REASON,
    SCORE,
    SEGMENTS,
    probabilities,
)
from samplecnn.errors import RecordingError
from samplecnn.hearing import Hearing
from samplecnn.merge import Merged, SegmentOutputs, stated_grade
from samplecnn.model_folder import ModelCard
from samplecnn.network.folded import folded
from samplecnn.ordinal import HEADS
from samplecnn.segments import Windows, audible_windows, seconds_of_playing, take
from samplecnn.set_pieces import PieceCalibration, SetPieces, beside
from samplecnn.sound import measures_of
from samplecnn.tempo import course_of

# S windows of one recording, b of them in a batch of BATCH, T samples, O outputs, E embedding, G grades (0 = worst).
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SILENT = "silent: nobody plays long enough in any segment: check the recording"
UNLIKE = "unlike the training recordings"
A_PERSON = "a person should hear it"

# A recording of 90-150 s has 9-15 windows: 8 waste little on padding and are 5 % slower a window than 16 on one core.
BATCH = 8


@dataclass(frozen=True)
class RecordingGrade:
    """What grading says of one recording.

    merged: None where the recording is not gradable, and reason then says why. grade: as it is stated, 0 = worst; None
    likewise. outputs: what was merged; weight_S: how much each window counted, all 0 where merged is None. piece: that
    beside whose other recordings it was judged; None: beside all.
    """

    merged: Merged | None
    grade: int | None
    reason: str | None
    outputs: SegmentOutputs
    weight_S: Float64
    piece: str | None = None

    def columns(self, card: ModelCard) -> dict[str, Any]:
        """What it says in the columns of contract.grades_schema. card: that of the model that graded."""
        told = {GRADABLE: self.merged is not None, REASON: self.reason, SEGMENTS: len(self.weight_S), PIECE: self.piece}
        if self.merged is None or self.grade is None:
            return told
        line = card.pieces.calibration.marks if card.pieces and self.piece else card.marks
        marks = line.told(self.merged.score) if line else (None, None, None)
        return {
            **told,
            **dict(zip((MARK, MARK_LOW, MARK_HIGH), marks, strict=True)),
            GRADE: card.grades[self.grade],
            SCORE: self.merged.score,
            CONFIDENCE: float(self.merged.probs_G[self.grade]),
            **probabilities(card.grades, self.merged.probs_G.tolist()),
        }


class Said(NamedTuple):
    """What a network says of windows, on the CPU: outputs and embeddings, float32, and attention, 0 where it has none
    (attention.py)."""

    outputs_SO: Tensor
    embedding_SE: Tensor
    attention_S: Tensor


def hear_batch(network: Hearing, windows_bT: Float32, device: torch.device) -> Said:
    """What a network says of at most BATCH windows of one recording.

    network: on `device`, in evaluation mode; windows_bT: level normalised.
    """
    batch_BT = np.zeros((BATCH, network.segment_samples), np.float32)
    batch_BT[: len(windows_bT)] = windows_bT
    with torch.inference_mode():
        outputs_BO, embedding_BE = network.hear(torch.from_numpy(batch_BT).to(device))
        attention_B = network.attention(embedding_BE) if network.attention else torch.zeros(BATCH)
    return Said(*(x[: len(windows_bT)].cpu() for x in (outputs_BO, embedding_BE, attention_B)))


def hear(network: Hearing, waveform_T: Float32, gain: float, windows: Windows, device: torch.device) -> Said:
    """What a network says of a recording's windows: hours of samples, mapped from a file, pass in the memory of one
    batch."""
    samples = network.segment_samples
    heard = []
    for start in range(0, len(windows), BATCH):
        windows_bT = take(waveform_T, windows, start, min(start + BATCH, len(windows)), samples) * np.float32(gain)
        heard.append(hear_batch(network, windows_bT, device))
    return _together(heard)


def _together(parts: list[Said]) -> Said:
    return Said(*(torch.cat(column) for column in zip(*parts, strict=True)))


def merge_windows(
    card: ModelCard,
    outputs: SegmentOutputs,
    playing_s: float,
    measures_M: Float64 | None = None,
    piece: str | None = None,
) -> RecordingGrade:
    """The grade that the model's merge rule makes of a recording's windows, or why it is not gradable.

    playing_s: seconds_of_playing in the whole recording; measures_M: sound.measures_of it, None where nobody asks;
    piece: what is played, which has a say if the model knows it.
    Raises RecordingError where the model gave no numbers.
    """
    if not (np.isfinite(outputs.probs_SG).all() and np.isfinite(outputs.attention_S).all()):
        raise RecordingError("grade", "the model gives no numbers for this recording")
    merged = card.rule()(outputs)
    if merged is None:
        return _not_gradable(SILENT, outputs)
    if not (merged.probs_G >= 0).all():  # NaN neither
        raise RecordingError("grade", "the model's merge rule gives no numbers for this recording")
    least_s = card.settings.least_playing_s
    if playing_s < least_s:
        return _not_gradable(f"too little playing: {playing_s:.2f} s, less than {least_s:g} s: {A_PERSON}", outputs)
    if card.likeness and measures_M is not None:
        distance, limit = card.likeness.distance(measures_M), card.likeness.limit
        if distance > limit:
            far = f"{math.ceil(10 * distance) / 10:.1f} from them, more than {limit:.1f}"
            return _not_gradable(f"{UNLIKE}: {far}: {A_PERSON}", outputs)
    calibrated: ModelCard | PieceCalibration = card
    if piece is not None and card.pieces and card.pieces.knows(piece):
        merged, calibrated = beside(merged, piece, card.pieces.shift), card.pieces.calibration
    else:
        piece = None
    grade = stated_grade(merged.probs_G, calibrated.cuts)
    confidence = float(merged.probs_G[grade])
    if confidence < calibrated.least_confidence:
        told = math.floor(100 * confidence) / 100  # rounded up it could read as if it were not below
        return _not_gradable(
            f"not sure: confidence {told:.2f} is below {calibrated.least_confidence:.2f}: {A_PERSON}", outputs
        )
    return RecordingGrade(merged, grade, None, outputs, merged.weight_S, piece)


def _not_gradable(reason: str, outputs: SegmentOutputs) -> RecordingGrade:
    return RecordingGrade(None, None, reason, outputs, np.zeros(len(outputs.probs_SG)))


class Grader:
    """A loaded model, ready to grade one recording after another.

    Threads are the caller's business: own_threads(1) in every process that grades, or bits may differ.
    """

    def __init__(self, card: ModelCard, network: Hearing, device: torch.device) -> None:
        self.card, self.device = card, device
        self._network = folded(network).to(device)

    def hear(self, windows_ST: Float32) -> tuple[Float64, Float32, Float64]:
        """Probabilities [S, G], embeddings [S, E] and attention [S] of windows of one recording, level normalised.

        A recording may come in several parts with the same result, bit for bit, if all but the last are whole multiples
        of BATCH.
        """
        parts = [windows_ST[start : start + BATCH] for start in range(0, len(windows_ST), BATCH)]
        return self._told(_together([hear_batch(self._network, part_bT, self.device) for part_bT in parts]))

    def grade(self, waveform_T: Float32, active_F: npt.NDArray[np.bool_], piece: str | None = None) -> RecordingGrade:
        """Grade one recording: mono samples at the model's rate, its frames with playing (segments.py), its piece.

        Raises RecordingError where the model gives no numbers.
        """
        windows, gain = audible_windows(waveform_T, active_F, self.card.settings)
        probs_SG, embedding_SE, attention_S = self._told(hear(self._network, waveform_T, gain, windows, self.device))
        outputs = SegmentOutputs(probs_SG, embedding_SE, windows.activity_S, windows.start_s, attention_S=attention_S)
        if self.card.asks_for_course():
            course_C = course_of(waveform_T, active_F, gain, self.card.settings.sample_rate)
            outputs = replace(outputs, course_C=course_C)
        measures_M = measures_of(waveform_T, active_F, self.card.settings.sample_rate) if self.card.likeness else None
        return merge_windows(self.card, outputs, seconds_of_playing(active_F), measures_M, piece)

    def _told(self, said: Said) -> tuple[Float64, Float32, Float64]:
        probs_SG = HEADS[self.card.head].probs(said.outputs_SO / self.card.temperature)
        return probs_SG.numpy(), said.embedding_SE.numpy(), said.attention_S.double().numpy()


def said_of_piece(piece: str | None, graded: RecordingGrade, known: SetPieces | None) -> str | None:
    """A remark on a recording of a piece that the model does not know. known: what it knows of pieces."""
    if piece is None or known is None or graded.merged is None or graded.piece is not None:
        return None
    return f"graded without its piece: the model knows {len(known.shift)} pieces, and not {piece!r}"
