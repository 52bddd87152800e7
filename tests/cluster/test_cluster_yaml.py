"""The cluster files: what `ray up` accepts and Penstock needs; `penstock doctor --cluster` says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock import cluster, clusterfile
from penstock.errors import ConfigError
from tests.command import Finished

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "cluster.yaml", ROOT / "deploy" / "cluster-local.yaml"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rays_own_validation_accepts_the_cluster_file(file: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load(file.read_text(encoding="utf-8")))
    validate_config(prepared)
    assert clusterfile.complaints(prepared) == []


def test_there_are_gpu_workers_that_come_and_go_and_cpu_workers_for_data() -> None:
    config = clusterfile.read(FILES[0])
    types = config["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != config["head_node_type"]}
    assert {bool(kind["resources"].get("GPU")) for kind in workers.values()} == {True, False}
    assert all(kind["min_workers"] == 0 < kind["max_workers"] for kind in workers.values())
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    profiles = {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in workers.values()}
    assert profiles == {"penstock-node"}, "the bucket is opened with the nodes' role"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nodes_install_this_version_with_the_constraints(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    installed = re.findall(r"penstock-(\S+?)-py3-none-any\.whl", file.read_text(encoding="utf-8"))
    assert installed == [VERSION]
    for place in config["file_mounts"].values():
        assert place.startswith("~") or place == "dist" or (ROOT / place).exists(), place
    constraint = re.findall(r"--constraint ~/(\S+)", file.read_text(encoding="utf-8"))
    assert constraint == ["deploy/constraints.txt"] and config["file_mounts"]["~/deploy"] == "deploy"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_cluster_file_holds_no_secret(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"AKIA|aws_secret|[0-9a-f]{32}|password", text, re.IGNORECASE)


def test_nodes_start_with_the_settings_of_a_ray_that_penstock_starts() -> None:
    """One list: what the command prints, a shell reads back."""
    printed = subprocess.run(
        [sys.executable, "-m", "penstock.cluster"], capture_output=True, text=True, check=True
    ).stdout
    shell = f"{printed}\nenv -0"
    found = subprocess.run(
        ["bash", "-c", shell], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    values = dict(line.split("=", 1) for line in found.stdout.split("\0") if line)
    assert {name: values.get(name) for name in cluster.SETTINGS} == cluster.SETTINGS
    assert cluster.SETTINGS["RAY_AUTH_MODE"] == "token"


MISTAKES = {
    "a key": (
        lambda config: config.update(idle_timeout_minuts=5),
        "unknown key 'idle_timeout_minuts'; did you mean idle_timeout_minutes?",
    ),
    "a key of a node type": (
        lambda config: config["available_node_types"]["gpu_worker"].update(min_worker=1),
        "unknown key 'available_node_types.gpu_worker.min_worker'; did you mean min_workers?",
    ),
    "a key of the provider, where Ray takes any": (
        lambda config: config["provider"].update(regoin="eu-central-1"),
        "unknown key 'provider.regoin'; did you mean region?",
    ),
    "a key like no other": (
        lambda config: config.update(xyz=1),
        "unknown key 'xyz'; known: auth, available_node_types",
    ),
    "a type": (
        lambda config: config.update(max_workers="many"),
        "max_workers: 'many' is not of type 'integer'",
    ),
    "a head that is not there": (
        lambda config: config.update(head_node_type="hed"),
        "`head_node_type` must be one of",
    ),
    "more at least than at most": (
        lambda config: config["available_node_types"]["gpu_worker"].update(min_workers=13),
        "`max_workers` is smaller than the sum of `min_workers`",
    ),
    "no provider": (lambda config: config.pop("provider"), "provider.type is missing"),
    "a local one with node types": (
        lambda config: config.update(provider={"type": "local", "head_ip": "192.0.2.1"}),
        "provider local takes no available_node_types",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, cli: Callable[..., Finished], tmp_path: Path) -> None:
    change, said = MISTAKES[mistake]
    config: dict[str, Any] = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    change(config)  # type: ignore[no-untyped-call]
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(config))
    assert said in cli("doctor", "--cluster", file).error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "line 1: no YAML"),
        ("", "holds no settings"),
        ("- 1", "holds no settings"),
        ("é: \xff", "no YAML"),
        ("[" * 5000, "too deeply"),
    ],
)
def test_what_is_no_cluster_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=said) as raised:
        clusterfile.read(file)
    assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="cannot read"):
        clusterfile.read(tmp_path / "none.yaml")


def test_ray_without_a_token_is_a_problem(cli: Callable[..., Finished], tmp_path: Path) -> None:
    file = tmp_path / "open.yaml"
    file.write_text(FILES[0].read_text().replace('eval "$(python -m penstock.cluster)" && ', ""))
    told = cli("doctor", "--cluster", file, "--json")
    problems = json.loads(told.out.splitlines()[-1])["problems"]
    assert told.code == 1
    assert [one["found"].partition(" ")[0] for one in problems] == [
        "head_start_ray_commands",
        "worker_start_ray_commands",
    ]
    assert cli("doctor", "--cluster", file).out.splitlines()[-1] == "2 problems"
    file.write_text(FILES[0].read_text().replace('eval "$(python -m penstock.cluster)" && ', "", 1))
    assert cli("doctor", "--cluster", file).out.splitlines()[-1] == "1 problem"
    assert cli("doctor", "--cluster", FILES[0], "--json").json["problems"] == []
    assert cli("doctor", "--cluster", FILES[0]).out.splitlines()[-1] == "no problems"
