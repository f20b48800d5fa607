"""What a user decides about training. Apart from fit.py, which costs two seconds of torch before --help can print."""

import math
from dataclasses import dataclass

from samplecnn.errors import UserError
from samplecnn.flags import flag, flag_name


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a network is trained. The defaults were measured: docs/model.md."""

    epochs: int = flag(15, "most passes over the recordings")
    crops: int = flag(8, "segments drawn from each recording in an epoch")
    batch_size: int = flag(16, "segments a training step, over all workers together")
    learning_rate: float = flag(3e-4, "highest learning rate")
    weight_decay: float = flag(0.05, "pull of the weights towards 0")
    patience: int = flag(5, "epochs without improvement after which training stops")

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("crops", 1), ("batch_size", 2), ("patience", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{flag_name(name)} {getattr(self, name)}: choose {least} or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"--learning-rate {self.learning_rate}: choose a number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UserError(f"--weight-decay {self.weight_decay}: choose 0 or more")
