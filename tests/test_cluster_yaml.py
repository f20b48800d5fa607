"""cluster.yaml against Ray's own schema; real nodes are an issue of their own."""

import json

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.fixtures.jobs import ROOT


@pytest.fixture
def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def test_rays_own_schema_accepts_it(cluster):
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu"]["resources"]["GPU"] == 1


def test_nothing_is_told_to_rays_makers(cluster):
    heads = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert heads
    assert all("--disable-usage-stats" in command for command in heads)


def test_nothing_is_open_to_the_world(cluster):
    text = json.dumps(cluster)
    assert "accessConfigs" not in text
    assert "--dashboard-host" not in text
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command
