"""The maps of segments: what sounds alike lies together, and the same grades give the same map."""

import numpy as np
import pyarrow as pa
import pytest

from samplecnn.contract import segment_grades_schema
from samplecnn.report.clusters import FEWEST, map_data, means_of_recordings, sketched
from tests.fixtures.heard import GRADES, heard


def rows_of(count: int, **columns: object) -> pa.Table:
    keys = {"recording": "a", "version": "v1", "model_id": "m1"}
    rows = [
        {**keys, **row, **columns} for number in range(count) for row in heard(f"{number}.wav", number)["segment_rows"]
    ]
    return pa.Table.from_pylist(rows, schema=segment_grades_schema(GRADES))


@pytest.mark.parametrize("kind", ["PCA", "t-SNE"])
def test_segments_that_sound_alike_lie_together(kind: str) -> None:
    segments = rows_of(20)
    found = map_data(segments)
    assert map_data(segments) == found
    assert segments["weight"].take(found["segment"]).to_numpy().min() > 0
    place_SD = np.array(found["places"][kind]).T
    assert place_SD.min() == 0
    assert place_SD.max() == 1000
    best_S = segments["p_A"].to_numpy()[found["segment"]]
    distance_SS = np.linalg.norm(place_SD[:, None] - place_SD, axis=2)
    np.fill_diagonal(distance_SS, np.inf)
    neighbour_S = distance_SS.argmin(axis=1)
    assert np.corrcoef(best_S, best_S[neighbour_S])[0, 1] > 0.5


def test_many_segments_are_thinned_evenly_and_one_models_alone_are_compared() -> None:
    segments = rows_of(30)
    mixed = pa.concat_tables([rows_of(2, model_id="m0"), segments])
    found = sketched(mixed, most=100)
    assert len(found.row_S) == 100
    assert set(mixed["model_id"].take(found.row_S).to_pylist()) == {"m1"}
    assert np.diff(found.row_S).max() < 8


def test_too_few_segments_and_grades_without_sketches_have_no_map() -> None:
    assert map_data(rows_of(1).slice(0, FEWEST)) is None
    assert map_data(rows_of(5, sketch=None)) is None
    assert map_data(rows_of(5, sketch=[1.0, 2.0])) is None
    assert map_data(rows_of(0)) is None


def test_a_recording_lies_at_the_mean_of_its_segments() -> None:
    segments = pa.concat_tables([rows_of(2, model_id="m0"), rows_of(20)])
    names = [f"{row // 9}.wav" for row in range(len(segments))]
    segments = segments.set_column(segments.schema.get_field_index("recording"), "recording", pa.array(names))
    first_R, mean_RK = means_of_recordings(segments, "m1")
    found = map_data(segments)
    assert found["recordings"]["first"] == first_R.tolist()
    assert len(found["recordings"]["places"][0]) == len(first_R) > 10
    table = segments.to_pandas()
    says = table[(table.model_id == "m1") & (table.weight > 0)]
    for first, mean_K in zip(first_R, mean_RK, strict=True):
        own = says[says.recording == table.recording[first]]
        np.testing.assert_allclose(mean_K, np.stack(own.sketch).mean(axis=0), atol=1e-6)
