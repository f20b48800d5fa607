"""How a job over recordings ended: its closing line and its exit code. Apart from runtime.py, which loads Ray."""

from dataclasses import dataclass

FEW_ITEMS = 10  # below this, "more than half failed" says little


@dataclass(frozen=True)
class Outcome:
    """How a job over recordings ended; its text is the job's closing line.

    done, failed: recordings of this run; kept, given_up: of earlier ones, done and failed for good; summary: the
    closing line; model_id: of the model that graded.
    """

    done: int
    failed: int
    kept: int
    given_up: int
    summary: str
    model_id: str = ""

    def exit_code(self, strict: bool) -> int:
        """0 when every recording came out; 1 when nothing did, most of many failed, or, if strict, any did."""
        tried = self.done + self.failed
        failed = self.failed + self.given_up
        nothing = failed > 0 and self.done + self.kept == 0
        most = tried >= FEW_ITEMS and self.failed > tried / 2
        return int(nothing or most or (strict and failed > 0))

    def __str__(self) -> str:
        return self.summary


def failed_text(failed: int, given_up: int, table: str) -> str:
    """The part of a closing line that is about failures."""
    counts = [f"{failed} failed"] if failed else []
    counts += [f"{given_up} failed before"] if given_up else []
    return f", {', '.join(counts)} ({table})" if counts else ""
