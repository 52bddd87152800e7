"""Bytes from strangers -> the values of a request, with every limit applied on the way.

What comes out is plain: dicts, lists, strings, numbers, and bytes where a field holds media.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from penstock.media import Media
from penstock.serving.limits import Limits
from penstock.serving.problems import Problem, excerpt

_SYNONYMS = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
}
_CLOSE = {"Connection": "close"}
_DISCARD_S = 1.0
_DISCARD_TIMES = 4
_OFF_LOOP = 256 * 1024  # bytes; parsing more than this would keep other requests waiting


@dataclass
class Budget:
    """Bytes of bodies held at a time by all requests together."""

    limit: int
    held: int = 0

    def take(self, count: int, retry_after_s: int) -> None:
        if self.held + count > self.limit:
            busy = {"Retry-After": str(retry_after_s), **_CLOSE}
            raise Problem(503, "too much is being uploaded at the moment; try again", headers=busy)
        self.held += count


async def read(
    chunks: AsyncIterator[bytes], declared: str | None, most: int, limits: Limits, budget: Budget
) -> bytearray:
    """The whole body, at most `most` bytes of it, whatever Content-Length `declared` says.

    Problem 413 when it is larger, 408 when it does not arrive in time, 400 when it is empty. The caller
    gives its bytes back to `budget`.
    """
    announced = int(declared) if declared and declared.isascii() and declared.isdigit() else 0
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            too_large = announced > most
            while not too_large and (chunk := await anext(chunks, None)) is not None:
                budget.take(len(chunk), limits.retry_after_s)
                body += chunk
                too_large = len(body) > most
        if too_large:
            await _discard(chunks, _DISCARD_TIMES * most)
            raise Problem(413, f"the body has more than {most} bytes", headers=_CLOSE)
        if not body:
            raise Problem(400, "the body is empty")
    except TimeoutError:
        budget.held -= len(body)
        raise Problem(408, f"the body did not arrive within {limits.body_s:g} s", headers=_CLOSE) from None
    except BaseException:
        budget.held -= len(body)
        raise
    return body


async def _discard(chunks: AsyncIterator[bytes], most: int) -> None:
    """Reads on for a moment: a client that is still sending when the connection closes would see a
    reset instead of the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            seen = 0
            async for chunk in chunks:
                seen += len(chunk)
                if seen > most:
                    return


def content_type(header: str | None) -> str:
    """The bare media type, in its usual spelling; "" when there is none."""
    bare = (header or "").partition(";")[0].strip().lower()
    return _SYNONYMS.get(bare, bare)


def largest(kind: str, media: Mapping[str, Media], limits: Limits) -> int:
    """Most bytes a body of this media type may have; Problem 415 when the type is not taken."""
    if kind == "application/json":
        # base64 takes 4 bytes for 3, and a little for the last ones
        return limits.text_bytes + sum(field.limit * 4 // 3 + 4 for field in media.values())
    for field in media.values():
        if kind in field.types:
            return field.limit
    taken = ["application/json", *(one for field in media.values() for one in field.types)]
    said = f"{excerpt(kind)!r} is not taken" if kind else "Content-Type is missing"
    raise Problem(415, f"{said}; send {' or '.join(taken)}", headers={"Accept": ", ".join(taken)})


async def values_of(
    body: bytearray, kind: str, query: Iterable[tuple[str, str]], media: Mapping[str, Media], limits: Limits
) -> dict[str, Any]:
    """The request's values. A raw body fills the first field of its media type, query words the others."""
    if kind == "application/json":
        if len(body) > _OFF_LOOP:
            return await asyncio.to_thread(_from_json, body, media, limits)
        return _from_json(body, media, limits)
    if sniff(body) != kind:
        raise Problem(415, f"the body is not {kind}, whatever its Content-Type says")
    name = next(name for name, field in media.items() if kind in field.types)
    values: dict[str, Any] = {}
    for key, text in query:
        if key in values or key in media:
            raise Problem(400, f"the query names {excerpt(key)!r} twice, or the body's own field")
        values[key] = text
    return {**values, name: bytes(body)}


def _from_json(body: bytearray, media: Mapping[str, Media], limits: Limits) -> dict[str, Any]:
    # numbers and keys beside the media: a body of the size of a picture must not become millions of objects
    if sum(body.count(mark) for mark in (b",", b":", b"[", b"{")) > limits.text_bytes:
        raise Problem(413, "the JSON has too many values", headers=_CLOSE)
    values = parse_json(body, limits.depth)
    if not isinstance(values, dict):
        raise Problem(422, "the request is a JSON object", [("", "not an object")])
    for name, field in media.items():
        if isinstance(values.get(name), str):
            values[name] = decoded(name, values[name], field)
    text = sum(len(value) for value in values.values() if isinstance(value, str))
    if text > limits.text_bytes:
        raise Problem(413, f"more than {limits.text_bytes} bytes of text", headers=_CLOSE)
    return values


def decoded(name: str, text: str, field: Media) -> bytes:
    """The bytes that base64 `text` stands for; Problem 400 when it is none, 413 when they are too many."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, f"{name} is not valid base64", [(f"/{name}", "not valid base64")]) from None
    if len(raw) > field.limit:
        raise Problem(413, f"{name} has more than {field.limit} bytes", headers=_CLOSE)
    return raw


def parse_json(body: bytes | bytearray, depth: int) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity, no key twice, numbers that fit, not nested deeper than
    `depth`. Problem 400 says where it fails."""
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_constant, parse_float=_number, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem(400, f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise Problem(400, f"the JSON is nested deeper than {depth}") from None
    except ValueError:
        raise Problem(400, "the JSON has a number with too many digits") from None
    _check(value, depth)
    return value


def _constant(name: str) -> NoReturn:
    raise Problem(400, f"the body is not JSON: {name} is not a number in JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Problem(400, "the JSON has a number that is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Problem(400, "the JSON names a key twice")
    return made


def _check(value: Any, depth: int) -> None:
    level, here = 0, [value]
    while here:
        level += 1
        below: list[Any] = []
        for one in here:
            if isinstance(one, dict):
                below += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str) and not _is_text(one):
                raise Problem(400, "the JSON has half a surrogate pair in a string")
        nested = any(isinstance(one, dict | list) for one in here)
        if nested and level > depth:
            raise Problem(400, f"the JSON is nested deeper than {depth}")
        here = below


def _is_text(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def sniff(raw: bytes | bytearray) -> str:
    """The media type that the first bytes show; "" for none we know."""
    if raw[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if raw[:4] == b"RIFF" and raw[8:12] == b"WAVE":
        return "audio/wav"
    return ""
