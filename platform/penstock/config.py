"""Config: dataclass <- preset <- TOML file <- dotted overrides, with one-line errors.

The platform's own sections, `Optim` and `Train`, live here too: every workload's config holds both.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from penstock.errors import ConfigError, nearest

C = TypeVar("C")


@dataclass(frozen=True)
class Optim:
    """How weights move; the same for every workload."""

    kind: Literal["sgd", "adam", "adamw", "rowwise_adagrad"] = "adamw"  # the last one for huge tables
    lr: float = 1e-3  # peak learning rate
    weight_decay: float = 1e-2  # decoupled for adamw and rowwise_adagrad, L2 for sgd and adam
    momentum: float = 0.9  # sgd only
    betas: tuple[float, float] = (0.9, 0.999)  # adam and adamw
    schedule: Literal["constant", "cosine", "linear"] = "cosine"  # after the warm-up, down to final_lr
    warmup_steps: int = 0  # steps of linear rise from 0 to lr
    final_lr: float = 0.0  # where the schedule ends, as a share of lr
    clip: float = 1.0  # largest gradient norm per objective; 0 = no clipping

    def __post_init__(self) -> None:
        _at_least(self, "optim", 0, "lr", "weight_decay", "momentum", "warmup_steps", "final_lr", "clip")


@dataclass(frozen=True)
class Train:
    """How long, how large, how exact; the same for every workload."""

    epochs: int = 10
    batch: int = 32  # the global batch, over all workers
    accumulate: int = 1  # micro-batches a worker cuts its share into; does not change the maths
    ema: float = 0.0  # decay of the averaged weights that are evaluated and published; 0 = off
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"  # autocast for bf16 and fp16
    compile: bool = False  # torch.compile the forward pass
    strategy: Literal["auto", "exact", "ddp", "fsdp"] = "auto"  # auto: exact on CPU, ddp on GPU
    checkpoint_every: int = 50  # steps; an epoch's end is always one
    keep_checkpoints: int = 2  # newest ones kept, beside the best
    validate_every: int = 1  # epochs
    publish: Literal["best", "last"] = "best"  # which validated weights become the model
    patience: int = 0  # validations without improvement before stopping; 0 = never

    def __post_init__(self) -> None:
        _at_least(self, "train", 1, "epochs", "batch", "accumulate")
        _at_least(self, "train", 1, "checkpoint_every", "keep_checkpoints", "validate_every")
        _at_least(self, "train", 0, "ema", "patience")
        if self.ema >= 1.0:
            raise ConfigError(f"train.ema = {self.ema}: below 1 is needed")


def _at_least(section: Any, name: str, least: int, *settings: str) -> None:
    for setting in settings:
        value = getattr(section, setting)
        if value < least:
            raise ConfigError(f"{name}.{setting} = {value}: at least {least} is needed")


def build(
    kind: type[C],
    preset: C | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """A validated `kind`: defaults (or `preset`), then `file` (TOML), then `key.sub=value` words
    with values read as TOML. ConfigError names the setting, its value and the nearest known one."""
    values = to_dict(preset if preset is not None else kind())
    if file is not None:
        merge(kind, values, read_toml(file))
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not a setting; write key.sub=value")
        nested: Any = parse_value(text)
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        merge(kind, values, nested)
    return from_dict(kind, values)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON values; tuples become lists."""
    result: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return result


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """A validated config from nested plain values; unknown keys are refused."""
    check_keys(kind, values, "")
    return _level(kind, values, ())


def _level(kind: type[C], values: Mapping[str, Any], path: tuple[str, ...]) -> C:
    types = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for key, value in values.items():
        inner = _level if dataclasses.is_dataclass(types[key]) else check_value
        made[key] = inner(types[key], value, (*path, key))
    return kind(**made)


def check_value(kind: Any, value: Any, path: tuple[str, ...]) -> Any:
    # strict, but a tuple arrives as a list and an int may stand for a float
    strict = kind in (int, float, bool, str)
    if isinstance(value, list) and typing.get_origin(kind) is tuple:
        value = tuple(value)
    try:
        return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value, strict=strict)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{'.'.join(path)} = {value!r}: {message}") from None


def check_keys(kind: Any, values: Mapping[str, Any], prefix: str) -> None:
    # pydantic silently ignores unknown keys of a plain dataclass, so we walk them ourselves
    types = typing.get_type_hints(kind)
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in types:
            here = [f"{prefix}{each}" for each in types]
            hint = nearest(name, [*here, *dotted(kind, prefix)])
            raise ConfigError(f"no setting {name}{hint if 'mean' in hint else '; known: ' + ', '.join(here)}")
        if dataclasses.is_dataclass(types[key]):
            if not isinstance(value, Mapping):
                inner = ", ".join(dotted(types[key], f"{name}."))
                raise ConfigError(f"{name} = {value!r}: a section, not a value; its settings: {inner}")
            check_keys(types[key], value, f"{name}.")


def dotted(kind: Any, prefix: str = "") -> list[str]:
    """Every setting below `kind`, dotted, in declaration order."""
    names: list[str] = []
    for key, value in typing.get_type_hints(kind).items():
        names += dotted(value, f"{prefix}{key}.") if dataclasses.is_dataclass(value) else [f"{prefix}{key}"]
    return names


def merge(kind: Any, values: dict[str, Any], new: Mapping[str, Any]) -> None:
    check_keys(kind, new, "")

    def into(target: dict[str, Any], given: Mapping[str, Any]) -> None:
        for key, value in given.items():
            if isinstance(value, Mapping) and isinstance(target.get(key), dict):
                into(target[key], value)
            else:
                target[key] = value

    into(values, new)


def read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {str(file)!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"config file {str(file)!r}: {error}") from None


def spelled(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as the `key.sub=value` words that mean the same: dotted name -> word."""
    words: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        # JSON's strings, numbers, booleans and lists are TOML's as well
        inner = isinstance(value, Mapping)
        words |= spelled(value, f"{name}.") if inner else {name: f"{name}={json.dumps(value, default=str)}"}
    return words


def parse_value(text: str) -> Any:
    """A TOML value; a bare word is a string, so that `model.kind=cnn` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
