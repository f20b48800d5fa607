import subprocess
import sys

import pytest

from samplecnn.errors import UserError
from samplecnn.recipe import FitSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("crops", 0), ("batch_size", 1), ("patience", 0), ("learning_rate", 0.0), ("weight_decay", -1.0)],
)
def test_settings_that_cannot_be_meant_are_refused(field, value):
    with pytest.raises(UserError, match="--" + field.replace("_", "-")):
        FitSettings(**{field: value})


def test_the_flags_of_training_are_known_without_torch():
    code = "import sys, samplecnn.recipe; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
