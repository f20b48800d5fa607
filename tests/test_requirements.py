"""The two sets of requirements: one of names, two of versions."""

import re

from tests.fixtures.jobs import ROOT


def names(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[\[=<]", line)[0] for line in lines if line[0] not in "#-"}


def test_k80_nodes_install_what_the_others_do():
    assert names("requirements-k80.txt") == names("requirements.txt") | {"pandas"}


def test_every_requirement_is_pinned():
    for suffix in ("", "-k80"):
        assert names(f"requirements{suffix}.txt") <= names(f"constraints{suffix}.txt")


def test_the_k80_set_has_the_last_torch_for_it():
    pinned = (ROOT / "constraints-k80.txt").read_text(encoding="utf-8").splitlines()
    assert {"torch==2.0.1", "torchaudio==2.0.2", "ray==2.60.0"} <= set(pinned)
    assert "numpy==1.26" in "\n".join(pinned)
