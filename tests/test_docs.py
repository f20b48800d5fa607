"""What README and docs/ say exists, exists."""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys

import pytest

from samplecnn.flags import Flags
from tests.fixtures.jobs import ROOT

PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").glob("*.md")]
)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@every_page
def test_every_command_exists(page):
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"\bmake ([a-z-]+)`", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, target
    for script in re.findall(r"(?<![\w/])(?:jobs|scripts)/\w+\.(?:py|sh)", text):
        assert (ROOT / script).exists(), script


class Parsed(BaseException):
    """A script has read its flags. No Exception: flags.run would take it for the end of a job."""


def commands(text: str) -> list[str]:
    """What a page tells people to run with Python, a line each."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"python (?:(?:jobs|scripts)/\w+\.py|-m (?:benchmarks|tests)\.\w+)(?: [^`\n]*)?", text)
    return [re.sub(r"\s+#.*", "", " ".join(command.split())) for command in found]


def parse(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a script up to where its flags are read, and the job that `cluster.py submit` names.

    A command that is told in part, with ... in it, must only have flags that there are.
    """
    real = Flags.parse

    def parsed(self, argv=None):
        given = list(sys.argv[1:] if argv is None else argv)
        if "..." in given:
            known = self._parser._option_string_actions
            assert [word for word in given if word.startswith("--") and word not in known] == []
        else:
            real(self, argv)
        raise Parsed

    with patch.context() as patched:
        patched.setattr(Flags, "parse", parsed)
        patched.setattr(sys, "argv", words)
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    if words[1:2] == ["submit"] and "--" in words:
        parse([f"jobs/{words[2]}.py", *words[words.index("--") + 1 :]], patch)


@every_page
def test_every_command_is_understood(page, monkeypatch):
    for command in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(command)[1:]
        if words[0] == "-m":
            assert importlib.util.find_spec(words[1]), command
        elif len(words) > 1:  # else it is a name in a sentence
            parse(words, monkeypatch)


def test_a_command_that_is_not_understood_is_found(monkeypatch):
    assert len(commands((ROOT / "README.md").read_text(encoding="utf-8"))) >= 10
    assert commands("`python jobs/x.py --a \\\n  --b`, python -m tests.y") == [
        "python jobs/x.py --a --b",
        "python -m tests.y",
    ]
    for wrong in ("jobs/grade.py --recordings r --modle m", "jobs/erase.py --modle m ...", "scripts/cluster.py lunch"):
        with pytest.raises((SystemExit, AssertionError)):
            parse(shlex.split(wrong), monkeypatch)


FIGURE = re.compile(r"(?<![\w.:/-])\d*\.\d\d+(?![\w.])|\d+ (?:%|CPU)|\bkappa\b")
MADE_BY = re.compile(
    r"python -m (?:benchmarks|tests)|\bmake (?:bench|demo|test)|`?pytest |`benchmarks |(?:jobs|scripts)/\w+\.(?:py|sh)"
)


def sections(text: str) -> list[str]:
    """A page's sections, each with its heading."""
    return re.split(r"^(?=#+ )", text, flags=re.MULTILINE)


@every_page
def test_a_section_with_figures_names_a_command_that_makes_them(page):
    for section in sections(page.read_text(encoding="utf-8")):
        assert len(FIGURE.findall(section)) < 2 or MADE_BY.search(section), section.splitlines()[0]


def test_a_section_whose_figures_nobody_can_make_is_found():
    bare = "## Speed\nIt is 0.97 of the floor, at 40 % of the memory.\n"
    assert len(sections(f"# A\n{bare}# B\n")) == 4
    assert len(FIGURE.findall(bare)) == 2
    assert not MADE_BY.search(bare)
    assert MADE_BY.search(bare + "(`python -m benchmarks memory`)")


def test_every_module_has_its_place_in_the_picture_of_the_parts():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    whole = {path.stem if path.is_file() else f"{path.name}/" for path in (ROOT / "samplecnn").iterdir()}
    for name in whole - {"__init__", "__pycache__/", "operations/", "pipelines/"}:
        assert f"`{name}`" in text, name
    for path in (ROOT / "samplecnn").glob("*/*.py"):
        if path.parent.name in ("operations", "pipelines", "report", "performances") and path.stem != "__init__":
            assert re.search(rf"\b{path.stem}\b", text), path


@every_page
def test_every_test_that_is_named_exists(page):
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in tests, name


@pytest.mark.skipif(sys.platform != "linux", reason="packages need others on other systems")
def test_the_page_of_the_licences_is_current():
    checked = subprocess.run(
        [sys.executable, "scripts/write_licences.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_licence_is_the_one_that_is_named():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_page_of_the_jobs_is_current():
    checked = subprocess.run(
        [sys.executable, "scripts/write_job_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
