"""Whether `ray up` will take a cluster.yaml, and whether that starts what Penstock needs. Nothing is started.

Ray's own schema accepts or refuses; it is walked here first, as it says less than the nearest known key.
"""

from __future__ import annotations

import difflib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from penstock.errors import ConfigError, nearest

_MOST_BYTES = 1 << 20
_NEAR = 0.8  # how alike a key of the provider's is to a known one, where Ray takes any
_STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


def read(path: Path) -> dict[str, Any]:
    """The file, with Ray's defaults in place. ConfigError, in one line, for what `ray up` would refuse: no
    file, no YAML, an unknown key, a wrong type, a node type that is not there."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ConfigError(f"{path} has more than {_MOST_BYTES >> 20} MiB; is it a cluster.yaml?")
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        said = str(getattr(error, "problem", error)).partition("\n")[0]
        raise ConfigError(f"{path}{where}: no YAML: {said}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply; is it a cluster.yaml?") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings; deploy/README.md names examples")
    for where, key, known in unknown(values, _schema()):
        raise ConfigError(f"{path}: unknown key {f'{where}{key}'!r}{nearest(key, known)}")
    return _prepared(path, values)


def unknown(values: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """(where, key, the known ones) of every key that `schema` has no place for."""
    if not isinstance(values, dict):
        return
    named = schema.get("properties", {})
    any_name = next(iter(schema.get("patternProperties", {}).values()), None)
    for key, value in values.items():
        inner = named.get(key, any_name)
        if inner is not None:
            yield from unknown(value, inner, f"{where}{key}.")
        elif schema.get("additionalProperties") is False or (
            named and difflib.get_close_matches(str(key), named, n=1, cutoff=_NEAR)
        ):
            yield where, str(key), list(named)


def complaints(config: Mapping[str, Any]) -> list[str]:
    """What `ray up` would take, and would still be wrong."""
    return [
        f"{commands} start Ray without Penstock's settings and its token: whoever reaches a node can run code"
        for commands in _STARTS
        if not any("penstock.cluster" in one and "ray start" in one for one in config.get(commands, ()))
    ]


def summary(config: Mapping[str, Any]) -> str:
    """Its node types, in a line."""
    provider, head = config["provider"], config["head_node_type"]
    if provider["type"] == "local":
        return f"local: head {provider['head_ip']}, workers {len(provider['worker_ips'])}"
    types = [
        f"{name} {kind['min_workers']} to {kind['max_workers']}"
        for name, kind in config["available_node_types"].items()
        if name != head
    ]
    return f"{provider['type']}: {', '.join([f'head {head}', *types])}"


def _schema() -> dict[str, Any]:
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _prepared(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What Ray makes of it."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.WARNING)  # it tells what it fills in

    provider = values.get("provider")
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        raise ConfigError(f"{path}: provider.type is missing; aws, gcp, azure or local, for example")
    if provider["type"] == "local":
        if values.get("available_node_types"):  # Ray would print this itself
            raise ConfigError(
                f"{path}: provider local takes no available_node_types; name provider.worker_ips"
            )
        for key in ("head_ip", "worker_ips"):
            if not provider.get(key):
                raise ConfigError(f"{path}: provider.{key} is missing")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # Ray tells what it fills in
            config: dict[str, Any] = prepare_config(values)
            validate_config(config)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        raise ConfigError(f"{path}: {where or 'the file'}: {error.message.splitlines()[0][:200]}") from None
    except Exception as error:  # whatever Ray raises at what it does not expect
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{path}: Ray does not take it: {said}") from None
    return config
