"""Embeddings as few numbers: enough to draw which recordings sound alike, small enough to keep for every segment.

A random projection keeps distances, whatever the embedding (Johnson, Lindenstrauss 1984): with 32 numbers mostly within
a quarter. A principal component analysis would keep more, but wants all recordings at once, and grading sees one.
"""

import numpy as np
import numpy.typing as npt

# S segments, E embedding, K numbers of a sketch.
NUMBERS = 32

Float32 = npt.NDArray[np.float32]


def sketch(embedding_SE: Float32) -> Float32:
    """Sketches [S, K], rounded to half precision; as many numbers as the embedding where that has fewer.

    The same projection for every embedding of one length, so that sketches by one model can be compared.
    """
    numbers = min(NUMBERS, embedding_SE.shape[1])
    shape = (embedding_SE.shape[1], numbers)
    projection_EK = np.random.default_rng(0).standard_normal(shape) / np.sqrt(numbers)
    sketch_SK: Float32 = (embedding_SE @ projection_EK).astype(np.float16).astype(np.float32)
    return sketch_SK
