import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from samplecnn.sketch import NUMBERS, sketch


def test_what_lies_close_together_stays_close_together():
    rng = np.random.default_rng(3)
    centre_SE = np.repeat(rng.standard_normal((4, 576)), 10, axis=0)
    embedding_SE = (centre_SE + 0.3 * rng.standard_normal((40, 576))).astype(np.float32)
    sketch_SK = sketch(embedding_SE)
    assert sketch_SK.shape == (40, NUMBERS)
    ratio = pdist(sketch_SK) / pdist(embedding_SE)
    assert 0.8 < ratio.mean() < 1.2
    assert ratio.std() < 0.25
    assert spearmanr(pdist(sketch_SK), pdist(embedding_SE)).statistic > 0.7


def test_a_segment_has_the_same_sketch_whatever_it_is_sketched_beside():
    embedding_SE = np.random.default_rng(1).standard_normal((7, 100)).astype(np.float32)
    np.testing.assert_allclose(sketch(embedding_SE)[2], sketch(embedding_SE[2:3])[0], rtol=1e-3)
    assert sketch(embedding_SE[:, :5]).shape == (7, 5)
    assert sketch(embedding_SE[:0]).shape == (0, NUMBERS)
