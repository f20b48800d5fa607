"""Set pieces from labels.csv to latest.csv, through real jobs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings
from samplecnn.contract import LATEST_CSV, METRICS_JSON
from samplecnn.errors import UserError
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import BY_PIECE, evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.grade_few import grade_few
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.set_pieces import set_pieces_from_json
from samplecnn.tables import read_csv

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
FIT = FitSettings(epochs=1, crops=4, batch_size=16, train_on_all=True)
SPLIT = LabelSettings(group="recording")


def test_a_piece_that_is_named_has_a_say_and_one_that_is_unknown_is_told(recordings, tmp_path, caplog):
    place = {
        name: str(tmp_path / name) for name in ("segments", "labels.csv", "evaluation", "model", "plain", "grades")
    }
    prepare(str(recordings[0]), place["segments"], SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0))
    rows = read_csv(Path(recordings[1]).read_bytes(), "labels")
    labelled = [f"{row['recording']},{row['grade']},{('fugue', 'waltz')[n % 2]}" for n, row in enumerate(rows)]
    Path(place["labels.csv"]).write_text("\n".join(["recording,grade,piece", *labelled]) + "\n")

    args = ([place["segments"]], place["labels.csv"], place["evaluation"], SPLIT, EvaluationSettings(folds=2))
    said = evaluate(*args, NetworkSettings(), FIT, seed=0)
    (told,) = json.loads(Path(place["evaluation"], METRICS_JSON).read_text())["evaluations"]
    assert told["model"]["name"] + BY_PIECE in told["graders"]
    assert BY_PIECE in said

    how = (place["segments"], place["labels.csv"])
    train(*how, place["plain"], SPLIT, NetworkSettings(), FIT, seed=0)
    with pytest.raises(UserError, match="--pieces: this model knows no set pieces"):
        grade(str(recordings[0]), place["plain"], place["grades"], pieces=place["labels.csv"], workers=1)
    train(*how, place["model"], SPLIT, NetworkSettings(), FIT, seed=0, evaluation=place["evaluation"])
    card, network = model_folder.load(place["model"])
    assert card.pieces.calibration.to_json() == told["model"]["pieces"]
    assert set(card.pieces.shift) == {"fugue", "waltz"}
    again = train(*how, place["model"], SPLIT, NetworkSettings(), FIT, seed=0, evaluation=place["evaluation"])
    assert again.endswith("nothing to do")
    # A training that was calibrated afterwards is the same model.
    train(*how, place["plain"], SPLIT, NetworkSettings(), FIT, seed=0, evaluation=place["evaluation"])
    assert model_folder.load(place["plain"])[0].model_id == card.model_id

    # Shifts of a model that learnt for an epoch are next to nothing: it gets others, which must change its id.
    moved = {**card.pieces.to_json(), "shift": {"fugue": 3.0, "waltz": -3.0}, "least_confidence": 0.0}
    other = model_folder.publish(
        place["model"], replace(card, pieces=set_pieces_from_json(moved)), network.state_dict()
    )
    assert other.model_id != card.model_id

    first, second, third, *_ = (row["recording"] for row in rows)
    pieces = tmp_path / "pieces.csv"
    pieces.write_text(f"recording,piece\n{first},fugue\n{second},waltz\n{third},tarantella\nnobody.wav,waltz\n")
    grade(str(recordings[0]), place["model"], str(tmp_path / "without"), workers=1)
    grade(str(recordings[0]), place["model"], place["grades"], pieces=str(pieces), workers=1)
    assert f"1 recordings of {pieces} are not in {recordings[0]}, or no sound files: nobody.wav" in caplog.text
    before, after = (
        {row["recording"]: row for row in read_csv((tmp_path / name / LATEST_CSV).read_bytes(), "latest")}
        for name in ("without", "grades")
    )
    assert float(after[first]["score"]) > float(before[first]["score"])
    assert float(after[second]["score"]) < float(before[second]["score"])
    assert [after[name]["piece"] for name in (first, second, third)] == ["fugue", "waltz", ""]
    assert after[third]["warning"].endswith("graded without its piece: the model knows 2 pieces, and not 'tarantella'")
    for name in set(before) - {first, second}:
        assert after[name]["score"] == before[name]["score"]

    lines: list[str] = []
    grade_few([str(Path(recordings[0]) / first)], place["model"], lines.append, str(pieces))
    assert f"{float(after[first]['score']):.2f}" in lines[-1]

    assert "graded beside another piece" not in caplog.text
    pieces.write_text(f"recording,piece\n{first},waltz\n{second},waltz\n{third},tarantella\n")
    outcome = grade(str(recordings[0]), place["model"], place["grades"], pieces=str(pieces), workers=1)
    assert outcome.done == 0
    assert (
        f"1 recordings were graded beside another piece than {pieces} says, or none, and stay so: {first}"
        in caplog.text
    )
