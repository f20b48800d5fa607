"""A model as one ONNX file: for programs that have no Python, and for faster engines.

What a program needs to feed it right stands in the file's metadata, since the file travels alone.
"""

import inspect
import json
import os
import tempfile
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from samplecnn.hearing import Hearing
from samplecnn.model_folder import NORMALISATION, ModelCard, activity_rule
from samplecnn.network.folded import folded
from samplecnn.ordinal import HEADS

# B segments, T samples, G grades (0 = worst), E embedding.

OPSET = 17  # the newest that torch 2.0.1 writes
WAVEFORM, PROBS, EMBEDDING, ATTENTION = "waveform", "probs", "embedding", "attention"


class _Graded(nn.Module):
    """waveform_BT to probs_BG, float32, embedding_BE, and attention_B where the network has learnt it."""

    def __init__(self, card: ModelCard, network: Hearing) -> None:
        super().__init__()
        self.network, self.probs, self.temperature = network, HEADS[card.head].probs, card.temperature

    def forward(self, waveform_BT: Tensor) -> tuple[Tensor, ...]:
        outputs_BO, embedding_BE = self.network.hear(waveform_BT)
        attention = self.network.attention
        told = (attention(embedding_BE),) if attention else ()
        return self.probs(outputs_BO / self.temperature).float(), embedding_BE, *told


def metadata(card: ModelCard) -> dict[str, str]:
    """What is to be done before and after the network; what is no text is JSON."""
    return {
        "model_id": card.model_id,
        "sample_rate": str(card.settings.sample_rate),
        "segment_samples": str(card.settings.segment_samples),
        "hop_s": str(card.settings.hop_s),
        "grades_worst_first": json.dumps(card.grades, ensure_ascii=False),
        "normalisation": NORMALISATION,
        "activity": json.dumps(activity_rule()),
        "merge": json.dumps({"rule": card.merge, "parameters": dict(card.merge_parameters)}),
        "head": card.head,
        "temperature": str(card.temperature),
        "cuts": json.dumps(card.cuts),
        "least_confidence": str(card.least_confidence),
    }


def onnx_bytes(card: ModelCard, network: Hearing) -> bytes:
    """The ONNX file. In: waveform [B, segment_samples], float32, level normalised once per recording, any B. Out: probs
    [B, G], temperature and head applied, worst grade first, embedding [B, E], and attention [B] where the network has
    learnt it. network: in evaluation mode, on the CPU."""
    outputs = [PROBS, EMBEDDING] + ([ATTENTION] if network.attention else [])
    # From torch 2.9 on the default is an exporter that needs one more package and is not there in 2.0.1.
    legacy: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder, warnings.catch_warnings():
        # That it is the older exporter, that the length of a segment becomes a constant (as it should), that a constant
        # is not folded: none is news to the user, and what comes out is compared with PyTorch in a test.
        warnings.simplefilter("ignore")
        file = os.path.join(folder, "model.onnx")
        torch.onnx.export(
            _Graded(card, folded(network)).eval(),
            (torch.zeros(2, card.settings.segment_samples),),
            file,
            input_names=[WAVEFORM],
            output_names=outputs,
            dynamic_axes={name: {0: "segments"} for name in (WAVEFORM, *outputs)},
            opset_version=OPSET,
            **legacy,
        )
        model = onnx.load(file)
    onnx.helper.set_model_props(model, metadata(card))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
