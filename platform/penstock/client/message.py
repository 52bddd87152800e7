"""What a client sends: a file, bytes, a text or values, as the endpoint takes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from penstock.errors import PenstockError

_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"RIFF": "audio/wav",
}


@dataclass(frozen=True)
class Message:
    """One HTTP request."""

    path: str
    content: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]


def message(schema: Mapping[str, Any], model: str, given: Any, fields: Mapping[str, Any]) -> Message:
    """The request of `model` (its `schema`) that `given` and `fields` make. PenstockError, one line, when
    they make none."""
    path = f"/v1/models/{quote(model, safe='@')}/predict"
    if isinstance(given, BaseModel):
        values = given.model_dump(mode="json", exclude_unset=True) | dict(fields)
        return Message(path, _json(values), {"Content-Type": "application/json"}, {})
    if given is None or isinstance(given, Mapping):
        values = {**(given or {}), **fields}
        return Message(path, _json(values), {"Content-Type": "application/json"}, {})
    if isinstance(given, str) and not _is_file(given):
        values = {_field(schema, model, "string", None, f"{given[:64]!r} is no file, and "): given, **fields}
        return Message(path, _json(values), {"Content-Type": "application/json"}, {})
    raw = given if isinstance(given, bytes) else _contents(Path(given))
    kind = next((kind for magic, kind in _MAGIC.items() if raw.startswith(magic)), "")
    if all(isinstance(value, str | int | float) for value in fields.values()):
        query = {name: json.dumps(v) if isinstance(v, bool) else str(v) for name, v in fields.items()}
        return Message(path, raw, {"Content-Type": kind or "application/octet-stream"}, query)
    name = _field(schema, model, "string", kind.partition("/")[0] or None)
    values = {name: base64.b64encode(raw).decode(), **fields}
    return Message(path, _json(values), {"Content-Type": "application/json"}, {})


def _json(values: Mapping[str, Any]) -> bytes:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes | bytearray):
            return base64.b64encode(value).decode()
        raise TypeError(f"{type(value).__name__} is not a JSON value")

    try:
        return json.dumps(values, default=plain, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PenstockError(f"the request cannot be written as JSON: {error}") from None


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        return False


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PenstockError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _field(schema: Mapping[str, Any], model: str, kind: str, medium: str | None, why: str = "") -> str:
    """The field that an input without a name fills: the first of its medium, or the first text. `why`: what
    an error begins with."""
    for name, field in schema.get("properties", {}).items():
        of = str(field.get("contentMediaType", "")).partition("/")[0]
        if field.get("type") == kind and (of == medium if medium else not of):
            return str(name)
    wanted = medium or "text"
    names = ", ".join(schema.get("properties", {}))
    raise PenstockError(f"{why}{model} takes no {wanted}; its fields: {names}")
