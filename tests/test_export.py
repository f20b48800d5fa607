import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.export import onnx_bytes
from samplecnn.hearing import Hearing
from samplecnn.infer import Grader
from samplecnn.model_folder import NORMALISATION, ModelCard, publish
from samplecnn.network.joined import build
from samplecnn.ordinal import HEADS
from samplecnn.segments import SegmentSettings, activity, grading_windows, normalising_gain, take
from tests.fixtures.scripts import SCRIPTS, run_script
from tests.fixtures.shards import decoded, silence, tone

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = SegmentSettings(sample_rate=500, segment_s=1.02, hop_s=1.02)  # 510 samples: global pooling


def _windows() -> np.ndarray:
    """Level-normalised segments of a recording with a rest in it."""
    wave_T = np.concatenate([tone(3.3, 0, 1), silence(1.5), tone(2.2, 2, 2)])
    active_F = activity(decoded(wave_T).frame_power_F)
    windows = grading_windows(active_F, len(wave_T), SETTINGS)
    return take(wave_T, windows, 0, len(windows), 510) * np.float32(normalising_gain(wave_T, active_F, 500))


def _model(
    head: str, block: str, multi_level: bool = False, name: str = "samplecnn", attention: bool = False
) -> tuple[ModelCard, Hearing]:
    plan = plan_for(510, NetworkSettings(block=block, multi_level=multi_level, head=head))
    network = build(name, plan, 500, 3, head, attention=attention).train()
    if network.attention:
        network.attention.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for n in range(10):  # BatchNorm statistics of what it hears
            network(torch.randn(8, 510, generator=torch.Generator().manual_seed(n)), torch.arange(8))
    card = ModelCard(
        plan=plan,
        settings=SETTINGS,
        grades=("C", "B", "Ä"),
        network=name,
        attention=attention,
        head=head,
        temperature=1.7,
    )
    return card, network.eval()


def _agrees(session: onnxruntime.InferenceSession, card: ModelCard, network: Hearing) -> None:
    windows_ST = _windows()
    probs_SG, embedding_SE, attention_S = Grader(card, network, torch.device("cpu")).hear(windows_ST)
    for rows in (slice(None), slice(0, 1)):  # any number of segments
        probs, embedding, *attention = session.run(None, {"waveform": windows_ST[rows]})
        for told in attention:
            np.testing.assert_allclose(told, attention_S[rows], rtol=1e-4, atol=1e-5)
        assert len(attention) == card.attention
        np.testing.assert_allclose(probs, probs_SG[rows], rtol=0, atol=1e-5)
        np.testing.assert_allclose(embedding, embedding_SE[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "block", "multi_level"),
    [*[(head, "plain", False) for head in HEADS], *[("coral", block, True) for block in ("se", "res", "rese")]],
)
def test_the_exported_network_says_what_pytorch_says(head, block, multi_level):
    card, network = _model(head, block, multi_level)
    session = onnxruntime.InferenceSession(onnx_bytes(card, network), providers=["CPUExecutionProvider"])
    _agrees(session, card, network)


@pytest.mark.parametrize(
    ("name", "attention"), [("joined", False), ("rhythm", False), ("rhythms", False), ("joined", True)]
)
def test_the_exported_rhythm_branch_and_attention_say_what_pytorch_says(name, attention):
    card, network = _model("cross-entropy", "plain", name=name, attention=attention)
    session = onnxruntime.InferenceSession(onnx_bytes(card, network), providers=["CPUExecutionProvider"])
    _agrees(session, card, network)


def test_the_script_writes_a_file_that_says_how_to_feed_it(tmp_path):
    card, network = _model("corn", "plain")
    card = publish(str(tmp_path / "model"), card, network.state_dict())

    done = run_script("export_onnx", "--model", tmp_path / "model", "--onnx", tmp_path / "out" / "model.onnx")

    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    _agrees(session, card, network)
    told = session.get_modelmeta().custom_metadata_map
    assert told["model_id"] == card.model_id
    assert (told["sample_rate"], told["segment_samples"], told["hop_s"]) == ("500", "510", "1.02")
    assert json.loads(told["grades_worst_first"]) == ["C", "B", "Ä"]
    assert (told["head"], told["temperature"], told["normalisation"]) == ("corn", "1.7", NORMALISATION)
    assert json.loads(told["merge"]) == {"rule": "mean", "parameters": {"silent_below": 0.2}}
    assert json.loads(told["activity"])["frame_s"] == 0.05


def test_without_the_package_the_user_is_told_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "samplecnn.export")
    monkeypatch.setattr(sys, "argv", ["export_onnx", "--model", "m", "--onnx", str(tmp_path / "m.onnx")])
    import export_onnx

    from samplecnn.flags import run

    assert run(export_onnx.main) == 2
    assert capsys.readouterr().err == "error: the package onnx is missing: pip install onnx\n"


def test_a_folder_is_no_file(tmp_path):
    refused = run_script("export_onnx", "--model", tmp_path, "--onnx", f"{tmp_path}/")
    assert (refused.returncode, "give a file" in refused.stderr) == (2, True)
