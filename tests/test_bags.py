from dataclasses import replace

import numpy as np
import pytest
import torch

from samplecnn.bags import GatedAttention, Learnt, SequenceContext, bags, fit_learnt
from samplecnn.merge import Activity, Mean, SegmentOutputs

pytestmark = pytest.mark.usefixtures("one_thread")

E = 5
every_kind = pytest.mark.parametrize("kind", [GatedAttention, SequenceContext])
NOTHING, ONES = np.zeros(E, np.float32), np.ones(E, np.float32)


def _recording(seed: int, segments: int = 6, silent: int = 0) -> SegmentOutputs:
    rng = np.random.default_rng(seed)
    activity_S = rng.uniform(0.3, 1.0, segments).astype(np.float32)
    activity_S[segments - silent :] = 0.0
    embedding_SE = rng.standard_normal((segments, E)).astype(np.float32)
    return SegmentOutputs(rng.dirichlet(np.ones(3), segments), embedding_SE, activity_S, 10.0 * np.arange(segments))


def _learnt(kind, seed=0) -> Learnt:
    segments_R = [_recording(n, 3 + n % 5) for n in range(30)]
    return fit_learnt(kind, segments_R, np.arange(30) % 3, seed)


@pytest.mark.parametrize(("kind", "rule"), [(GatedAttention, Activity()), (SequenceContext, Mean())])
def test_what_has_learnt_nothing_is_the_rule_that_it_starts_from(kind, rule):
    fresh = Learnt(kind(E).eval(), NOTHING, ONES)
    for seed in range(5):
        segments = _recording(seed, silent=seed % 3)
        np.testing.assert_allclose(fresh(segments).probs_G, rule(segments).probs_G, atol=1e-5)
        np.testing.assert_allclose(fresh(segments).weight_S, rule(segments).weight_S, atol=1e-5)


@every_kind
def test_neither_padding_nor_company_changes_a_recordings_grade(kind):
    learnt = _learnt(kind)
    company = [_recording(1, 4), _recording(2, 9), _recording(3, 1)]
    with torch.no_grad():
        together_RG, weight_RS = learnt.network(bags(company, learnt.centre_E, learnt.spread_E))
    for row, segments in enumerate(company):
        np.testing.assert_allclose(together_RG[row], learnt(segments).probs_G, atol=1e-5)
        assert not weight_RS[row, len(segments.probs_SG) :].any()


@every_kind
def test_silent_segments_have_no_weight_and_a_silent_recording_no_grade(kind):
    learnt = _learnt(kind)
    assert not learnt(_recording(0, silent=2)).weight_S[-2:].any()
    assert learnt(_recording(0, silent=6)) is None


def test_attention_does_not_ask_for_the_order_and_a_sequence_does():
    segments = _recording(0)
    order = np.array([3, 0, 5, 1, 4, 2])
    columns = (segments.probs_SG, segments.embedding_SE, segments.activity_S)
    moved = SegmentOutputs(*(column_S[order] for column_S in columns), segments.start_s_S)
    found = {
        kind: [_learnt(kind)(one).probs_G for one in (segments, moved)] for kind in (GatedAttention, SequenceContext)
    }
    np.testing.assert_allclose(*found[GatedAttention], atol=1e-6)
    assert np.abs(np.subtract(*found[SequenceContext])).max() > 1e-4


@every_kind
def test_a_pause_in_the_middle_may_count_and_attention_gives_it_no_say(kind):
    segments = _recording(0)
    paused = replace(segments, activity_S=np.where(np.arange(6) == 3, np.float32(0), segments.activity_S))
    assert _learnt(kind)(paused).weight_S[3] == 0


def test_attention_learns_which_segments_decide():
    """Those whose first number is high; what the others say is noise."""
    rng = np.random.default_rng(0)
    segments_R, grade_R = [], np.arange(60) % 3
    for grade in grade_R.tolist():
        told_S = np.arange(8) == rng.integers(8)
        probs_SG = np.where(told_S[:, None], 0.05 + 0.85 * np.eye(3)[grade], rng.dirichlet(np.ones(3), 8))
        embedding_SE = rng.standard_normal((8, E)).astype(np.float32)
        embedding_SE[:, 0] += 6 * told_S
        ones_S = np.ones(8, np.float32)
        segments_R.append(SegmentOutputs(probs_SG, embedding_SE, ones_S, 10.0 * np.arange(8)))
    learnt = fit_learnt(GatedAttention, segments_R[:40], grade_R[:40], 0)
    picked = [learnt(one).weight_S[one.embedding_SE[:, 0] > 3].sum() for one in segments_R[40:]]
    assert np.mean(picked) > 0.5
    assert len(picked) == 20


@every_kind
def test_the_same_seed_learns_the_same_and_leaves_torchs_generator_alone(kind):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, other = (_learnt(kind, seed=3)(_recording(0)).probs_G for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert torch.equal(torch.get_rng_state(), before)
