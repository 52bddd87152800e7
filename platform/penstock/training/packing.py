"""Nested state (of modules, optimisers) as tensors by path and JSON, exactly and without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def pack(value: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """The tensors in `value` by path, and JSON for the rest: dicts with str or int keys, lists, tuples,
    numbers, str, bool, None. TypeError names the path of anything else."""
    tensors: dict[str, torch.Tensor] = {}
    return tensors, _pack(value, "", tensors)


def unpack(tensors: Mapping[str, torch.Tensor], state: Any) -> Any:
    """What was given to `pack`: same types, same order, same bits."""
    if not isinstance(state, dict):
        return state
    ((tag, inner),) = state.items()
    match tag:
        case "tensor":
            return tensors[inner]
        case "dict":
            return {key: unpack(tensors, item) for key, item in inner}
        case "list":
            return [unpack(tensors, item) for item in inner]
        case "tuple":
            return tuple(unpack(tensors, item) for item in inner)
    raise TypeError(f"unknown tag {tag!r} in packed state")


def _pack(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if path in tensors:
            raise TypeError(f"two tensors at {path!r}")
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{path or 'state'}: a key of type {type(key).__name__}, not str or int")
        # pairs, not an object: JSON would turn the int keys of an optimiser's state into strings
        return {"dict": [[key, _pack(item, _join(path, key), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        items = [_pack(item, _join(path, i), tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{path or 'state'}: cannot save a {type(value).__name__}; use tensors, numbers, strings")


def _join(path: str, key: str | int) -> str:
    # "/" inside a key is escaped, so that two different paths never become one name
    part = str(key).replace("%", "%25").replace("/", "%2F")
    return f"{path}/{part}" if path else part
