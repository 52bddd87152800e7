"""A picture inside an answer, for clients that ask for one: `Accept: image/png`."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from pydantic import BaseModel

from penstock.media import picture_flag
from penstock.serving.body import sniff
from penstock.serving.problems import Problem


class Picture(NamedTuple):
    kind: str
    raw: bytes


def kinds_of(accept: str) -> list[str]:
    """The media types of an Accept header, in order."""
    return [part.partition(";")[0].strip().lower() for part in accept.split(",")]


def ask(values: dict[str, Any], accept: str, request: type[BaseModel]) -> None:
    """Where `accept` puts a picture first, sets the request's WantsPicture field if it says nothing of it."""
    flag = picture_flag(request)
    if flag and kinds_of(accept)[0].startswith("image/"):
        values.setdefault(flag, True)


def wanted(accept: str, answer: bytes, model: type[BaseModel]) -> Picture | None:
    """The answer's first picture where `accept` puts a picture first, None where JSON is as good.

    Problem 406 when only a picture would do and this answer has none.
    """
    kinds = kinds_of(accept)
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
