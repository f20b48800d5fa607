"""Which segments, and which recordings, sound alike to the model: their sketches (sketch.py) as points of a plane.

PCA keeps the large distances and t-SNE the neighbours; both are scikit-learn's, and the same for the same grades.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from samplecnn.contract import MODEL_ID, RECORDING, SKETCH, WEIGHT

# S segments, K numbers of a sketch, D = 2 places on the plane.
SEGMENTS_SHOWN = 1000  # t-SNE of these takes two seconds, of twice as many five
FEWEST = 12  # segments; fewer have no neighbours to speak of
PERPLEXITY = 20.0  # about two recordings' segments
PLANE = 1000  # steps of the whole numbers that places are told in


@dataclass(frozen=True)
class Sketched:
    """Segments with a say whose sketches one model made, spread evenly over the folder if there are many. row_S: their
    rows in the table of segments; sketch_SK: as kept."""

    model: str
    row_S: npt.NDArray[np.int64]
    sketch_SK: npt.NDArray[np.float32]


def sketched(segments: pa.Table, most: int = SEGMENTS_SHOWN) -> Sketched | None:
    """The sketches of the model that made most of them; None where there are too few to compare."""
    kept = with_sketch_and_say(segments).to_numpy()
    models = np.array(segments[MODEL_ID].to_pylist(), object)
    names, counts = np.unique(models[kept].astype(str), return_counts=True)
    if not len(names):
        return None
    model = str(names[counts.argmax()])
    row_S = np.flatnonzero(kept & (models == model))
    if len(row_S) < FEWEST:
        return None
    row_S = row_S[np.unique(np.linspace(0, len(row_S) - 1, min(most, len(row_S))).round().astype(int))]
    sketch_SK = np.stack(segments[SKETCH].take(pa.array(row_S)).to_numpy())
    return Sketched(model, row_S, sketch_SK)


def with_sketch_and_say(segments: pa.Table) -> pa.ChunkedArray:
    """Which segments can be compared, [S]."""
    return pc.and_(pc.is_valid(segments[SKETCH]), pc.greater(segments[WEIGHT], 0))


def means_of_recordings(segments: pa.Table, model: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(the row of the first segment, the mean sketch of its segments with a say, [R, K]) of the recordings that this
    model graded."""
    of_model = pc.and_(with_sketch_and_say(segments), pc.equal(segments[MODEL_ID], model))
    row_S = np.flatnonzero(of_model.to_numpy())
    chosen = segments.select([RECORDING, SKETCH]).take(pa.array(row_S))
    names = np.array(chosen[RECORDING].to_pylist(), object)
    first_R = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    sums_RK = np.add.reduceat(np.stack(chosen[SKETCH].to_numpy()).astype(np.float64), first_R)
    return row_S[first_R], sums_RK / np.diff(np.r_[first_R, len(row_S)])[:, None]


def map_data(segments: pa.Table) -> dict[str, Any] | None:
    """Places of segments, by PCA and by t-SNE, for the page's script; None where there is nothing to draw."""
    found = sketched(segments)
    if found is None or not np.ptp(found.sketch_SK, axis=0).any():
        return None
    pca = PCA(2, random_state=0)
    neighbours = TSNE(2, perplexity=min(PERPLEXITY, len(found.row_S) / 4), init="pca", random_state=0)
    maps = {"PCA": pca.fit_transform(found.sketch_SK), "t-SNE": neighbours.fit_transform(found.sketch_SK)}
    first_R, mean_RK = means_of_recordings(segments, found.model)
    return {
        "segment": found.row_S.tolist(),
        "recordings": {"first": first_R.tolist(), "places": _whole(pca.transform(mean_RK))},
        "places": {name: _whole(place_SD) for name, place_SD in maps.items()},
        "kept": round(100 * float(pca.explained_variance_ratio_.sum())),
    }


def _whole(place_SD: npt.NDArray[np.floating[Any]]) -> list[list[int]]:
    """x and y from 0 to PLANE, one scale for both."""
    low_D = place_SD.min(axis=0)
    size = max(float((place_SD - low_D).max()), 1e-9)
    whole: list[list[int]] = np.rint(PLANE * (place_SD - low_D) / size).astype(int).T.tolist()
    return whole
