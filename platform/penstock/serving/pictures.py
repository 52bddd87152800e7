"""A picture inside an answer, for clients that ask for one: `Accept: image/png`."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from pydantic import BaseModel

from penstock.serving.body import sniff
from penstock.serving.problems import Problem


class Picture(NamedTuple):
    kind: str
    raw: bytes


def wanted(accept: str, answer: bytes, model: type[BaseModel]) -> Picture | None:
    """The answer's first picture where `accept` puts a picture first, None where JSON is as good.

    Problem 406 when only a picture would do and this answer has none.
    """
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if not kinds[0].startswith("image/"):
        return None
    values = json.loads(answer)
    for name in _fields(model):
        if values.get(name):
            raw = base64.b64decode(values[name])
            kind = sniff(raw)
            if kind in kinds or "image/*" in kinds:
                return Picture(kind, raw)
    if any(kind in ("*/*", "application/*", "application/json") for kind in kinds):
        return None
    raise Problem(406, "this answer holds no such picture; ask for application/json")


def _fields(model: type[BaseModel]) -> list[str]:
    """Fields of the answer that may hold a picture, optional ones too."""
    properties: dict[str, Any] = model.model_json_schema(mode="serialization").get("properties", {})
    return [
        name
        for name, schema in properties.items()
        if any(
            str(one.get("contentMediaType", "")).startswith("image/")
            for one in (schema, *schema.get("anyOf", ()))
        )
    ]
