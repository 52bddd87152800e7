"""cluster.yaml is what `ray up` accepts."""

from __future__ import annotations

from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parents[2] / "cluster.yaml"


def test_rays_own_validation_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    prepared = prepare_config(config)
    validate_config(prepared)
    gpus = [kind for kind in prepared["available_node_types"].values() if kind["resources"].get("GPU")]
    assert gpus, "no node type has a GPU"
    assert config["head_node_type"] in config["available_node_types"]


def test_the_cluster_asks_for_rays_token() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in text
