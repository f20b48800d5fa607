import logging
import subprocess
import sys
from dataclasses import dataclass

import pytest

from samplecnn import errors
from samplecnn.errors import JobError, RecordingError, UserError
from samplecnn.flags import Flags, flag, run


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: int = flag(500, "samples per second (Hz)")
    share: float = flag(0.5, "share of a segment")
    quick: bool = flag(False, "skip what can be skipped")
    careful: bool = flag(True, "look twice")
    inner: int = 7  # no flag

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise UserError(f"--rate {self.rate}: choose above 0")


def flags() -> Flags:
    return (
        Flags("Do it.\n\nexamples:\n  do it")
        .places("recordings", optional=["labels"])
        .settings(Settings)
        .common("workers", "seed")
    )


def test_a_settings_field_is_a_flag():
    args = flags().parse(["--recordings", "gs://b/c", "--rate", "2000"])
    assert args.build(Settings) == Settings(rate=2000)
    assert (args.recordings, args.labels, args.workers) == ("gs://b/c", None, None)


@pytest.mark.parametrize(
    ("argv", "quick", "careful"),
    [([], False, True), (["--quick"], True, True), (["--no-quick", "--no-careful"], False, False)],
)
def test_a_setting_that_is_on_or_off_has_a_flag_for_each(argv, quick, careful):
    built = flags().parse(["--recordings", "r", *argv]).build(Settings)
    assert (built.quick, built.careful) == (quick, careful)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--recordings"),
        (["--recordings", "r", "--rate", "x"], "--rate"),
        (["--recordings", "r", "--rat", "5"], "--rat"),
        (["--recordings", "r", "--workers", "0"], "--workers 0"),
        (["--recordings", "r", "--seed", "-1"], "--seed -1: choose 0 or more"),
        (["--recordings", "r", "--seed", "4294967296"], "--seed 4294967296: choose 4294967295 or less"),
    ],
)
def test_a_mistake_is_a_user_error_that_names_the_flag(argv, words):
    with pytest.raises(UserError, match=words):
        flags().parse(argv)


def test_values_that_contradict_are_refused_when_built():
    with pytest.raises(UserError, match="--rate 0"):
        flags().parse(["--recordings", "r", "--rate", "0"]).build(Settings)


def test_help_shows_defaults_and_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        flags().parse(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "samples per second (Hz) (default: 500)" in shown
    assert "skip what can be skipped (default: off)\n" in shown
    assert "look twice (default: on)\n" in shown
    assert "do it" in shown


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("--rate 0: choose above 0"), 2, "error: --rate 0: choose above 0"),
        (JobError("nothing\nworked"), 1, "error: nothing worked"),
        (OSError("disk full"), 1, "error: OSError: disk full (--traceback shows more)"),
        (KeyboardInterrupt(), 130, "interrupted: run the same command again to go on"),
    ],
)
def test_every_end_is_one_line_and_an_exit_code(error, code, line, capsys):
    def main() -> int:
        raise error

    assert run(main) == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_name_in_a_log_is_one_line_and_moves_no_cursor():
    script = (
        "import logging; from samplecnn.flags import run\n"
        "def main():\n"
        "    name = 'a\\x1b]0;title\\x07\\nnight: {}\\u2028b 5.03\\u202fPM é.wav'\n"
        "    logging.getLogger('samplecnn').warning('%s: no sound', name)\n"
        "    raise __import__('samplecnn.errors', fromlist=['JobError']).JobError(name)\n"
        "raise SystemExit(run(main))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    logged, error = ended.stderr.split("\n")[:2]
    assert logged[9:] == r"a\x1b]0;title\x07\nnight: {}\u2028b 5.03" + "\u202fPM é.wav: no sound"
    assert error == r"error: a\x1b]0;title\x07 night: {} b 5.03 PM é.wav"


def test_a_traceback_is_shown_when_asked(monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["job", "--traceback"])

    def main() -> int:
        raise OSError("disk full")

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "Traceback" in caplog.text


def test_every_error_crosses_process_borders():
    import pickle

    for error in (UserError("a"), JobError("a"), RecordingError("decode", "broken", False), errors.LostRace("a")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert again.args == error.args
