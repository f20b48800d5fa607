import pytest

from samplecnn.errors import UserError
from samplecnn.trained_on import TrainedOn, trained_on_from_json

HELD = [("2026/für Élise.wav", "v1"), ("b.mp3", "v2")]
ONE = TrainedOn.of(HELD, "salt")


def test_a_recording_is_known_by_its_name_in_any_version_and_by_its_version_under_any_name():
    assert ONE.holds("b.mp3", "v2")
    assert ONE.holds("b.mp3", "another upload")
    assert ONE.holds("renamed.mp3", "v2")
    assert ONE.holds("2026/fu\u0308r E\u0301lise.wav", "v9")  # as macOS spells it
    assert not ONE.holds("c.mp3", "v3")
    assert not ONE.holds("v2", "b.mp3")


def test_the_file_names_nothing_and_comes_back():
    data = ONE.to_json()
    assert b"b.mp3" not in data
    assert b"v2" not in data
    assert trained_on_from_json(data, "model") == ONE
    assert len(ONE.hashes) == 4


def test_two_trainings_on_the_same_recordings_share_no_hash():
    assert ONE.hashes.isdisjoint(TrainedOn.of(HELD, "other").hashes)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": 2, "salt": "", "hashes": []}', b"\xff"])
def test_what_is_no_such_file_is_refused_in_one_line(data):
    with pytest.raises(UserError, match=r"model/trained_on\.json: damaged, or of another version"):
        trained_on_from_json(data, "model/trained_on.json")
