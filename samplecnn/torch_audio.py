"""The one door to torchaudio, which serves where it is at home: augmentation and log-mel spectrograms, never decoding.

Its compiled extension needs CUDA's libraries and cannot be loaded beside a CPU-only torch, while the pure-Python parts
work without it (tried: torch 2.13.0 and torchaudio 2.11.0 from PyPI). Beside such a torch a stand-in for the extension
is put in place before the import; no installed file is touched.
"""

import sys
from types import ModuleType
from typing import Any

import torch


class _NoExtension(ModuleType):
    """torchaudio._extension as it is where nothing compiled is there: each `_IS_..._AVAILABLE` is False, and each guard
    `fail_if_no_...` lets the function pass that it guards."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_IS_"):
            return False
        if name.startswith("fail_if_no_"):
            return lambda function: function
        raise AttributeError(name)


if torch.version.cuda is None:
    sys.modules.setdefault("torchaudio._extension", _NoExtension("torchaudio._extension"))

from torchaudio import functional, transforms  # noqa: E402

__all__ = ["functional", "transforms"]
