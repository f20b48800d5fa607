import io

import numpy as np
import pandas as pd
import pytest
import torch

from samplecnn import contract
from samplecnn.architecture import Plan
from samplecnn.contract import FILTERS_PARQUET, FILTERS_PNG, FILTERS_SCHEMA
from samplecnn.filters import filters_figure, filters_table, find_filters
from samplecnn.model_folder import ModelCard, publish
from samplecnn.network import SampleCNN
from samplecnn.network.blocks import BLOCKS
from samplecnn.network.joined import build
from samplecnn.segments import SegmentSettings
from samplecnn.tables import parquet_bytes
from tests.fixtures.scripts import run_script

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))


def _network(block: str = "plain") -> SampleCNN:
    plan = Plan(PLAN.segment_samples, PLAN.stride, PLAN.pools, PLAN.widths, block=block)
    network = SampleCNN(plan, 3, seed=1).train()
    for n in range(10):
        network(torch.randn(16, 500, generator=torch.Generator().manual_seed(n)), torch.arange(16))
    return network.eval()


def test_a_filter_made_for_one_frequency_peaks_there():
    """A strided layer of long filters, each a sine: the climb must find each one's frequency, and sort by it."""
    plan = Plan(segment_samples=600, stride=100, pools=(3, 2), widths=(5, 4, 4))
    network = SampleCNN(plan, 2).eval()
    frequencies = [120, 30, 200, 60, 90]  # 500 Hz: whole periods in 100 samples
    with torch.no_grad():
        for channel, hz in enumerate(frequencies):
            network.first.weight[channel, 0] = torch.sin(2 * np.pi * hz * torch.arange(100) / 500)

    (found,) = find_filters(network, 500, seed=0, layers=1, samples=600)

    assert found.filter_C.tolist() == [1, 3, 4, 0, 2]
    assert found.peak_hz_C.tolist() == [30, 60, 90, 120, 200]
    assert found.spectrum_CK.argmax(1).tolist() == [36, 72, 108, 144, 240]
    np.testing.assert_allclose(found.waveform_CT.mean(1), 0, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_climbing_finds_what_a_filter_answers_to_more_than_to_noise(block):
    network = _network(block)
    layers = find_filters(network, 500, seed=0, layers=9)

    assert [found.layer for found in layers] == ["strided convolution", *[f"{block} block {n}" for n in range(1, 5)]]
    noise_BT = torch.randn(50, 500, generator=torch.Generator().manual_seed(3))
    heard_BCF = network.strided(noise_BT).detach()
    for found, inner in zip(layers, [None, *network.blocks], strict=True):
        with torch.no_grad():
            heard = heard_BCF if inner is None else inner.active(heard_BCF, None)
            heard_BCF = heard_BCF if inner is None else inner(heard_BCF, None)
        awake = found.activation_C > 0
        assert awake.mean() > 0.3  # of the deepest layers some have one frame, and a ReLU that is shut
        usual_C = heard.mean(dim=(0, 2)).numpy()[found.filter_C]
        assert (found.activation_C[awake] > usual_C[awake]).all()
        assert (np.diff(found.peak_hz_C) >= 0).all()
        assert sorted(found.filter_C.tolist()) == list(range(len(found.filter_C)))


def test_the_seed_alone_decides_and_the_network_is_left_as_it_was():
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(5)
    first = find_filters(network, 500, seed=0, layers=2)
    torch.manual_seed(6)
    again, other = find_filters(network, 500, seed=0, layers=2), find_filters(network, 500, seed=1, layers=2)

    assert all(np.array_equal(a.waveform_CT, b.waveform_CT) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].waveform_CT, other[0].waveform_CT)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(("layers", "samples", "length"), [(1, 0, 5), (2, 0, 35), (5, 0, 500), (2, 120, 120)])
def test_waveforms_are_as_long_as_the_deepest_layer_hears(layers, samples, length):
    found = find_filters(_network(), 500, seed=0, layers=layers, samples=samples)
    assert {layer.waveform_CT.shape[1] for layer in found} == {length}


def test_the_table_is_read_by_pandas_and_the_figure_is_a_picture():
    layers = find_filters(_network(), 500, seed=0, layers=2, samples=100)

    rows = pd.read_parquet(io.BytesIO(parquet_bytes(filters_table(layers))))
    figure = filters_figure(layers)

    assert list(rows.columns) == FILTERS_SCHEMA.names
    assert len(rows) == 16
    np.testing.assert_array_equal(np.stack(rows[contract.WAVEFORM][:8]), layers[0].waveform_CT)
    assert len(rows[contract.SPECTRUM][0]) == 51
    assert figure.startswith(b"\x89PNG")


def test_the_script_writes_both_and_refuses_what_cannot_be(tmp_path):
    settings = SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.5)
    card = ModelCard(plan=PLAN, settings=settings, grades=("C", "B", "A"), network="samplecnn")
    publish(str(tmp_path / "model"), card, _network().state_dict())

    done = run_script("show_filters", "--model", tmp_path / "model", "--out", tmp_path / "out", "--layers", "2")
    refused = run_script("show_filters", "--model", tmp_path / "model", "--out", tmp_path / "out", "--layers", "0")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("16 filters of 2 layers: ")
    assert (tmp_path / "out" / FILTERS_PARQUET).exists()
    assert (tmp_path / "out" / FILTERS_PNG).exists()
    assert (refused.returncode, refused.stderr) == (2, "error: --layers 0: choose 1 or more\n")


def _published(place, name):
    settings = SegmentSettings(sample_rate=500, segment_s=1.0, hop_s=0.5)
    network = build(name, PLAN, 500, 3, seed=1)
    publish(
        str(place), ModelCard(plan=PLAN, settings=settings, grades=("C", "B", "A"), network=name), network.state_dict()
    )
    return network.eval()


def test_of_a_joined_model_the_filters_of_its_samplecnn_are_shown(tmp_path):
    network = _published(tmp_path / "model", "joined")

    done = run_script("show_filters", "--model", tmp_path / "model", "--out", tmp_path / "out", "--layers", "1")

    assert done.returncode == 0, done.stderr
    shown = pd.read_parquet(tmp_path / "out" / FILTERS_PARQUET)
    (alone,) = find_filters(network.samplecnn, 500, seed=0, layers=1)
    np.testing.assert_allclose(np.stack(shown[contract.WAVEFORM]), alone.waveform_CT, atol=1e-4)


def test_a_model_that_hears_rhythm_alone_has_no_filters_to_show(tmp_path):
    _published(tmp_path / "model", "rhythm")
    refused = run_script("show_filters", "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: --model {tmp_path / 'model'}: hears rhythm alone")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
