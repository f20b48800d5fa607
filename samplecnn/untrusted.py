"""JSON that somebody else may have written: a model from the internet, a manifest that a script edited.

json.loads lets through what trips whoever reads on: NaN, numbers that no float holds, lists so deep that the stack
ends. Here all of that is the ValueError that a broken file is anyway.
"""

import json
import math
from typing import Any, NoReturn

MOST_DIGITS = 300  # a float holds no more


def read_json(data: bytes | str) -> Any:
    """What JSON says. Raises ValueError for what is none, and for what only Python takes for it."""
    try:
        return json.loads(data, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is more than a number can be")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
