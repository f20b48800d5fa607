import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import HANGS_S

SCRIPT = Path(__file__).parent.parent / "scripts" / "layer_table.py"


def layer_table(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=HANGS_S, check=False)


def test_the_papers_network_is_printed_with_its_parameters():
    printed = layer_table(
        "--samples", "59049", "--sample-rate", "22050", "--classes", "50", "--network", "samplecnn"
    ).stdout
    assert "| strided convolution | 3 | 3 | 19683 x 128 | 768 | 3 samples, 0.000136 s |" in printed
    assert printed.endswith("1,869,874 trainable parameters\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("joined", "joined with the rhythm branch: 1,287,995 trainable parameters"),
        ("rhythm", "the rhythm branch alone: 34,107 trainable parameters"),
        ("rhythms", "several rhythm branches: 170,535 trainable parameters"),
    ],
)
def test_a_last_line_counts_the_rhythm_branch(name, line):
    lines = layer_table("--network", name).stdout.splitlines()
    assert lines[-2:] == ["1,253,891 trainable parameters", line]


def test_every_choice_shows_in_the_table():
    printed = layer_table("--block", "rese", "--multi-level", "--se-alpha", "1", "--head", "coral").stdout
    assert "rese blocks, multi-level, one frame left" in printed
    assert "| last convolution | 1 | 1 | 1 x 1024 |" in printed
    assert "| head | 1 | 1 | 1 x 2 | 1,026 |" in printed


@pytest.mark.parametrize(
    "args",
    [
        ("--segment-s", "0.001"),
        ("--filter-length", "7"),
        ("--classes", "1"),
        ("--depth", "99"),
        ("--samples", "240000", "--depth", "1"),
    ],
)
def test_what_no_network_fits_is_one_line_and_exit_code_2(args):
    ended = layer_table(*args)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
