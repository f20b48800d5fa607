"""Settings become flags, once: a dataclass field is the default, the type, the flag, the help line, the manifest entry.

Also `run`, which turns the end of a job into one line and an exit code, and is the only place that configures logging.
argparse rather than a larger library: one line a mistake, imports in 0.01 s, on every node.
"""

import argparse
import copy
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

from samplecnn.errors import JobError, UserError, one_line, printable

log = logging.getLogger(__name__)
S = TypeVar("S")

MOST_SEED = 2**32 - 1  # that scikit-learn takes

PLACES = {
    "recordings": "folder or gs://bucket/prefix that holds the recordings",
    "segments": "folder or gs://bucket/prefix of the segments",
    "labels": "CSV file with the columns recording, grade or mark, perhaps rater,start_s,end_s,performer,piece,session",
    "model": "folder or gs://bucket/prefix of the model",
    "candidate": "folder or gs://bucket/prefix of a model that may take over",
    "models": "folder or gs://bucket/prefix of models, the current one among them",
    "grades": "folder or gs://bucket/prefix of the grades",
    "pieces": "CSV file with the columns recording,piece: what is played, for a model that knows set pieces",
    "corrections": "CSV file with the columns recording,grade or mark,by,why and perhaps version",
    "export": "CSV file to write: the corrections that stand, as labels",
    "nights": "folder or gs://bucket/prefix of the nights' records",
    "evaluation": "folder or gs://bucket/prefix of the evaluation",
    "current_evaluation": "folder or gs://bucket/prefix of the evaluation that the current model was trained with",
    "midi": "folder of MIDI files, .mid or .midi",
    "table": "CSV file whose column recording names what each MIDI file becomes",
    "performances": "folder or gs://bucket/prefix of generated performances",
    "starter": "folder or gs://bucket/prefix of the starter",
    "filters": "folder or gs://bucket/prefix of what scripts/show_filters.py wrote",
    "out": "folder or gs://bucket/prefix for what is written",
    "onnx": "file to write, local or gs://bucket/name",
}

COMMON: dict[str, dict[str, Any]] = {
    "workers": {
        "type": int,
        "default": None,
        "metavar": "N",
        "help": "parallel workers (default: one a core; in training one a GPU, else one)",
    },
    "seed": {"type": int, "default": 0, "metavar": "N", "help": "seed of every random draw (default: 0)"},
    "strict": {"action": "store_true", "help": "exit with code 1 if any recording failed"},
}


def flag(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """A settings field that is also a flag. help: one line, with the unit; default None: the line says what happens."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def settings_dict(settings: Any) -> dict[str, Any]:
    """The settings as they are written with the results: field name to plain value."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def flag_name(field: str) -> str:
    """The flag of a field: segment_s is --segment-s."""
    return "--" + field.replace("_", "-")


def names_among(known: Sequence[str], field: str, text: str) -> tuple[str, ...]:
    """The names that a flag lists, commas between, or "all". Raises UserError for a name that is not known."""
    if text == "all":
        return tuple(known)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            raise UserError(f"{flag_name(field)}: {name!r} is none of {', '.join(known)}")
    return names


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


class Args(argparse.Namespace):
    """The parsed flags; places and common flags are attributes."""

    def build(self, settings: type[S], **instead: Any) -> S:
        """The settings object of this class. instead: values that the flags have not. Raises UserError where its values
        contradict each other."""
        return settings(**{f.name: getattr(self, f.name) for f in _flag_fields(settings)} | instead)


class Flags:
    """The flags of one job, in reading order: places, settings, common flags.

    doc: the job's docstring; its first line is the summary and the rest, examples included, ends --help.
    command: of a script that has several.
    """

    def __init__(self, doc: str, command: str = "") -> None:
        summary, _, rest = doc.strip().partition("\n")
        self._parser = _Parser(
            prog=f"{os.path.basename(sys.argv[0])} {command}" if command else None,
            description=summary,
            epilog=rest.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._has_rest = False

    def rest(self) -> "Flags":
        """Another command's words may stand after a --; they are `rest`."""
        self._has_rest = True
        return self

    def places(self, *names: str, optional: Sequence[str] = (), repeated: Sequence[str] = ()) -> "Flags":
        """Local folders or gs:// places; those in `optional` may be left out and are then None, those in `repeated` may
        be given several times and are lists."""
        for name in (*names, *optional):
            action, more = ("append", "; may be given several times") if name in repeated else ("store", "")
            self._parser.add_argument(
                flag_name(name), required=name in names, action=action, metavar="PLACE", help=PLACES[name] + more
            )
        return self

    def argument(self, name: str, help: str) -> "Flags":
        """What a script works on, given without a flag."""
        self._parser.add_argument(name, metavar=name.upper(), help=help)
        return self

    def optional(self, name: str, default: str, help: str) -> "Flags":
        """What a script works on, given without a flag or left out."""
        self._parser.add_argument(
            name, nargs="?", default=default, metavar=name.upper(), help=f"{help} (default: {default})"
        )
        return self

    def common(self, *names: str) -> "Flags":
        """Flags that several jobs share: workers, seed, strict."""
        for name in names:
            self._parser.add_argument(flag_name(name), **COMMON[name])
        return self

    def switch(self, name: str, help: str) -> "Flags":
        """A flag of this job alone that is on or off."""
        self._parser.add_argument(flag_name(name), action="store_true", help=help)
        return self

    def option(self, name: str, default: str, help: str) -> "Flags":
        """A text flag of this job alone."""
        self._parser.add_argument(flag_name(name), default=default, metavar="TEXT", help=f"{help} (default: {default})")
        return self

    def settings(self, *classes: type) -> "Flags":
        """One flag for each field that was made by flag(); a bool's is --name or --no-name."""
        for cls in classes:
            for field in _flag_fields(cls):
                kind = cast(type, field.type)  # no class of settings postpones its annotations
                if kind is bool:
                    self._on_off(field)
                    continue
                told = "" if field.default is None else f" (default: {field.default})"
                self._parser.add_argument(
                    flag_name(field.name),
                    type=kind,
                    default=field.default,
                    choices=field.metadata["choices"],
                    metavar=None if field.metadata["choices"] else {int: "N", float: "X"}.get(kind, "TEXT"),
                    help=field.metadata["help"] + told,
                )
        return self

    def _on_off(self, field: dataclasses.Field[Any]) -> None:
        told = field.metadata["help"]  # which says what happens, where there is no default
        told += "" if field.default is None else f" (default: {'on' if field.default else 'off'})"
        self._parser.add_argument(flag_name(field.name), action=argparse.BooleanOptionalAction, help=told)
        # Not as the argument's default: before Python 3.13 argparse would add that to the help line once more.
        self._parser.set_defaults(**{field.name: field.default})

    def parse(self, argv: Sequence[str] | None = None) -> Args:
        """The flags of this run. Raises UserError for a mistake; --help exits with code 0."""
        self._parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
        words = list(sys.argv[1:] if argv is None else argv)
        at = words.index("--") if self._has_rest and "--" in words else len(words)
        args = self._parser.parse_args(words[:at], namespace=Args())
        args.rest = words[at + 1 :]
        for name, least, most in (("workers", 1, None), ("seed", 0, MOST_SEED)):
            value = getattr(args, name, None)
            if value is not None and value < least:
                raise UserError(f"--{name} {value}: choose {least} or more")
            if value is not None and most is not None and value > most:
                raise UserError(f"--{name} {value}: choose {most} or less")
        return args


class Commands:
    """A script of several commands, each with flags of its own: cluster.py check, cluster.py configure.

    doc: the script's docstring; with the list of commands it is what --help prints.
    """

    def __init__(self, doc: str) -> None:
        self._doc = doc
        self._commands: dict[str, tuple[str, Flags, Callable[[Args], int]]] = {}

    def add(self, name: str, command: Callable[[Args], int], summary: str) -> Flags:
        """One command; give the flags that are returned to it."""
        flags = Flags(summary, name)
        self._commands[name] = (summary, flags, command)
        return flags

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Run the command that the first word names. Raises UserError where none is named."""
        name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
        if name in ("-h", "--help"):
            print(self._doc.strip() + "\n\ncommands (each with --help):")
            for name, (summary, _, _) in self._commands.items():
                print(f"  {name:11}{summary}")
            return 0
        if name not in self._commands:
            raise UserError(f"{name or 'no command'}: choose one of {', '.join(self._commands)} (see --help)")
        _, flags, command = self._commands[name]
        return command(flags.parse(rest))


def _flag_fields(cls: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if "help" in field.metadata]


class _OneLine(logging.Formatter):
    """Of a message one line, whatever is in the names that it holds: a night's watcher reads a job's log."""

    def format(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        shown.msg, shown.args = printable(record.getMessage()), None
        return super().format(shown)


def run(main: Callable[[], int]) -> int:
    """Run a job: log to stderr, one line and exit code 2 for the user's mistake, 1 for a failure, 130 for Ctrl-C."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("google", "urllib3", "ray", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("google.auth").setLevel(logging.ERROR)  # missing credentials end the job, in a line of our own
    try:
        return main()
    except UserError as error:
        return _end(error, 2)
    except JobError as error:
        return _end(error, 1)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `job | head` closed our stdout: nothing to tell anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _end(error, 1)


def _end(error: Exception, code: int) -> int:
    if "--traceback" in sys.argv:
        log.exception("traceback, as asked")
    known = isinstance(error, UserError | JobError)
    # A message of a library can be pages long (Ray repeats a worker's whole traceback): its first words and its type.
    message = one_line(error, most=sys.maxsize if known else 400) or type(error).__name__
    line = message if known else f"{type(error).__name__}: {message} (--traceback shows more)"
    print(f"error: {line}", file=sys.stderr)
    return code
