"""The errors a person can meet, each caught in one place.

    Exception
    ├── UserError        a wrong path, flag, label or setting; caught in flags.run: one line, exit code 2
    ├── JobError         the job could not do its work; caught in flags.run: one line, exit code 1
    ├── RecordingError   one recording's fault; caught at that recording's edge, becomes a row of the failures table
    └── LostRace         another writer was first; answered where the write was tried

Anything else is a defect or a broken machine: exit code 1, one line, the traceback on request.
Errors cross process borders, so every argument goes positionally to Exception.
"""

import unicodedata


class UserError(Exception):
    """A mistake that the user can mend; the message says what is wrong, where, and what to do."""


class JobError(Exception):
    """The job could not do its work through no fault of its flags; the message says what to look at."""


class RecordingError(Exception):
    """One recording cannot be used.

    stage: where it failed ("read", "decode", "grade"); message: one line for a person.
    permanent: False where trying the same version again may help (storage, a worker lost).
    """

    def __init__(self, stage: str, message: str, permanent: bool = True) -> None:
        super().__init__(stage, message, permanent)
        self.stage = stage
        self.message = message
        self.permanent = permanent

    def __str__(self) -> str:
        return f"{self.stage}: {self.message}"


class LostRace(Exception):  # noqa: N818 - an answer of the store, not a fault
    """A conditional write found that another writer had been there first."""


def one_line(message: object, most: int = 200) -> str:
    """Another's message, an exception's most of all, for one line of ours; at most so many characters."""
    return printable(" ".join(str(message).split()))[:most]


def printable(text: str) -> str:
    """The text as it may go to a terminal: a name may hold what moves its cursor, or ends a line, and is spelled."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":  # macOS puts a narrow space before "PM"
        return char
    return char.encode("unicode_escape", "replace").decode()
