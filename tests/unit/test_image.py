"""deploy/Dockerfile, read as a builder reads it; there is no Docker here to build it."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

import yaml

from penstock import cluster

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "Dockerfile"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), with continued lines joined and comments gone."""
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found = [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in found} <= known
    return found


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path of the repository through to the builder."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
                passes = line.startswith("!")
    return passes


def test_there_are_two_stages_on_a_pinned_base() -> None:
    bases = [stage[0][1].split()[0] for stage in stages()]
    assert len(bases) == 2 and len(set(bases)) == 1
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    pinned = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+", bases[0])
    assert pinned and python == f">={pinned[1]}.{pinned[2]}"


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    copied = [shlex.split(rest) for name, rest in instructions() if name == "COPY"]
    sources = [word for words in copied if not words[0].startswith("--from") for word in words[:-1]]
    assert {"platform", "workloads", "pyproject.toml", "deploy/constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists() and sent(source), source
    (taken,) = [words for words in copied if words[0].startswith("--from")]
    assert taken == ["--from=build", "/opt/penstock", "/opt/penstock"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [build["project"]["readme"], *build["project"]["license-files"]]
    needed += build["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for path in needed:
        assert any(path == source or path.startswith(f"{source}/") for source in sources), path


def test_nothing_else_reaches_the_builder() -> None:
    for path in (".git/config", ".venv/bin/python", ".env", "tests/toy.py", "deploy/serve.yaml", "id_rsa"):
        assert not sent(path), path


def test_it_installs_with_the_constraints() -> None:
    (install,) = [rest for name, rest in stages()[0] if name == "RUN"]
    assert "--constraint deploy/constraints.txt '.[s3]'" in install and "--no-cache-dir" in install
    constraints = (ROOT / "deploy" / "constraints.txt").read_text()
    for file in (ROOT / "deploy" / "kuberay").glob("*.yaml"):
        (ray,) = re.findall(r"rayVersion: (\S+)", file.read_text())
        assert f"\nray=={ray}\n" in constraints, file.name


def test_it_ends_as_a_numbered_user_that_is_not_root() -> None:
    last = stages()[-1]
    (user,) = [rest for name, rest in last if name == "USER"]
    uid, _, gid = user.partition(":")
    assert int(uid) > 0 and int(gid) > 0
    after = [name for name, _ in last[[name for name, _ in last].index("USER") :]]
    assert "RUN" not in after and "COPY" not in after
    assert any(f"--uid {uid} " in rest for name, rest in last if name == "RUN")
    for file in (ROOT / "deploy" / "kuberay").glob("*.yaml"):
        users = re.findall(r"runAs(?:User|Group): (\d+)", file.read_text())
        assert users and set(users) == {uid}, file.name


def test_its_health_is_the_endpoints() -> None:
    (check,) = [rest for name, rest in stages()[-1] if name == "HEALTHCHECK"]
    command = yaml.safe_load(check[check.index("CMD") + 3 :])
    assert command[:2] == ["python", "-c"] and "127.0.0.1:8000/healthz" in command[2]
    compile(command[2], "check", "exec")
    (port,) = [rest for name, rest in stages()[-1] if name == "EXPOSE"]
    assert port == "8000"


def test_its_environment_is_that_of_a_ray_that_penstock_starts() -> None:
    pairs = [pair for name, rest in stages()[-1] if name == "ENV" for pair in shlex.split(rest)]
    env = dict(pair.split("=", 1) for pair in pairs)
    assert {name: value for name, value in env.items() if name.startswith("RAY_")} == cluster.SETTINGS


def test_no_secret_and_no_other_version_is_written_down() -> None:
    files = [FILE, *(ROOT / "deploy" / "kuberay").glob("*.yaml"), *(ROOT / "deploy").glob("*.yaml")]
    for file in files:
        text = file.read_text()
        assert not re.search(
            r"AKIA|BEGIN [A-Z ]*KEY|[0-9a-f]{32}|(password|secret|token)\s*[:=]\s*['\"]?\w{12}", text
        )
        assert set(re.findall(r"penstock:(\d\S*)", text)) <= {VERSION}, file.name
