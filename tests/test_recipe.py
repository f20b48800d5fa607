import math
import subprocess
import sys

import pytest

from samplecnn.errors import UserError
from samplecnn.flags import settings_dict
from samplecnn.optimisers import OPTIMISERS
from samplecnn.recipe import DEFAULT_RECIPE, FROM_NOTHING, RECIPES, FitSettings, PretrainSettings, UnlabelledSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("crops", 0), ("batch_size", 1), ("patience", 0), ("learning_rate", 0.0), ("weight_decay", -1.0)],
)
def test_settings_that_cannot_be_meant_are_refused(field, value):
    with pytest.raises(UserError, match="--" + field.replace("_", "-")):
        FitSettings(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 0), ("performers", 1), ("learning_rate", math.nan), ("learning_rate", -1.0), ("weight_decay", -1.0)],
)
def test_settings_of_a_starter_that_cannot_be_meant_are_refused(field, value):
    with pytest.raises(UserError, match="--" + field.replace("_", "-")):
        PretrainSettings(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("network", "rhythm"), ("epochs", 0), ("learning_rate", math.nan)])
def test_settings_of_a_starter_without_labels_that_cannot_be_meant_are_refused(field, value):
    with pytest.raises(UserError, match="--" + field.replace("_", "-")):
        UnlabelledSettings(**{field: value})


def test_what_is_left_out_is_the_recipe_s():
    paper, modern = FitSettings(recipe="paper", patience=7), FitSettings()
    assert (paper.batch_size, paper.learning_rate, paper.weight_decay, paper.patience) == (23, 0.01, 0.0, 7)
    assert settings_dict(paper) == settings_dict(FitSettings(**settings_dict(paper)))
    assert None not in settings_dict(modern).values()
    assert modern.recipe == DEFAULT_RECIPE
    beside = FitSettings(recipe=FROM_NOTHING)
    assert (beside.init, beside.crops, beside.train_on_all, beside.learning_rate) == ("none", 8, True, 3e-3)
    assert not FitSettings(recipe=FROM_NOTHING, train_on_all=False).train_on_all


def test_every_recipe_has_an_optimiser_and_a_value_for_whatever_goes_by_recipe():
    assert OPTIMISERS.keys() == RECIPES.keys()
    assert len({frozenset(defaults) for defaults in RECIPES.values()}) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment": "gain,stretch"}, "'stretch' is none of"),
        ({"recipe": "secret"}, "--recipe"),
        ({"learn_from": "x"}, "--learn-from"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(changes, words):
    with pytest.raises(UserError, match=words):
        FitSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crops": 1}, "--crops 2 or more"),
        ({"crops": 3}, "--batch-size 16: choose a multiple of --crops"),
    ],
)
def test_whole_recordings_fill_a_step(changes, words):
    with pytest.raises(UserError, match=words):
        FitSettings(learn_from="recordings", **changes)


def test_changes_that_keep_the_grade_are_named_or_off():
    assert FitSettings(augment="none").augmentations == set()
    assert FitSettings(augment="gain,noise").augmentations == {"gain", "noise"}


def test_the_flags_of_training_are_known_without_torch():
    code = "import sys, samplecnn.recipe; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
