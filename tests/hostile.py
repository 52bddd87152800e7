"""Requests that nobody would send on purpose: what the OpenAPI document allows and what it does not, bodies
of every kind for every path, and small bodies that become large ones."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.serving.body import sniff
from tests import probe

KINDS_SENT = ("application/json", "image/png", "image/jpeg", "audio/wav", "text/plain", "", "application/x")
NAMES = st.sampled_from(
    ["image", "audio", "gain", "act", "messages", "model", "inputs", "request_id", "truth", "note", "moves"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | (VALUES | st.dictionaries(NAMES, VALUES, max_size=5)).map(
    lambda value: json.dumps(value).encode()
)


def calm(examples: int) -> settings:
    """The same examples every time, however long each takes."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


def by_the_document(url: str, examples: int, strict: bool = True) -> Counter[int]:
    """Statuses of `examples` good requests and as many bad ones for each operation of the document; none is
    5xx. `strict`: and statuses, types and schemas are those that the document names."""
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    statuses: Counter[int] = Counter()
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        posted = operation.method.upper() == "POST"  # nothing can be wrong with what a GET sends here
        for mode in schemathesis.GenerationMode if posted else [schemathesis.GenerationMode.POSITIVE]:

            @calm(examples)
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                answer = case.call(timeout=60)
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, answer.text
                if not strict or answer.status_code == 413:  # which the check takes for an acceptance
                    return
                # no schema says what a picture is
                case.validate_response(answer, excluded_checks=[positive_data_acceptance])

            check()
    return statuses


def of_every_kind(url: str, paths: Sequence[str], examples: int) -> Counter[int]:
    """Statuses of bodies that fit no path, for `paths`; none is 5xx."""
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

        @calm(examples)
        @given(st.sampled_from(paths), st.sampled_from(KINDS_SENT), BODIES)
        def check(path: str, kind: str, body: bytes) -> None:
            answer = client.post(path, content=body, headers={"Content-Type": kind} if kind else {})
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (path, kind, body, answer.text)
            assert sniff(answer.content) == ""

        check()
    return statuses


# ---------------------------------------------------------------- small bodies that become large ones


@dataclass(frozen=True)
class Bomb:
    """`kind`: its Content-Type; `status`: how it is refused."""

    name: str
    content: bytes
    kind: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)


def bombs() -> list[Bomb]:
    """Those of a picture, a sound and JSON."""
    wide = _png(_header(50_000, 50_000, depth=1, colour=0), _chunk(b"IDAT", _zeros(50_000 * 6251)))
    text = _chunk(b"iTXt", b"Comment\0\1\0\0\0" + _zeros(100_000_000))
    noted = probe.png()
    noted = noted[:33] + text + noted[33:]
    jpeg = bytearray(probe.png(16, kind="JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(400))
    wav = bytearray(sound.getvalue())
    wav[40:44] = b"\xff\xff\xff\xff"
    parts = b"--a\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 100_000
    return [
        Bomb("a picture of 50,000 x 50,000", wide, "image/png", 422),
        Bomb("a comment of 100 MB in a picture", noted, "image/png", 422),
        Bomb("a JPEG that says 65,535 x 65,535", bytes(jpeg), "image/jpeg", 422),
        Bomb("a sound that says 4 GiB", bytes(wav), "audio/wav", 422),
        Bomb("a gigabyte in gzip", _zeros(10_000_000), "application/json", 415, {"Content-Encoding": "gzip"}),
        Bomb("a million brackets", b"[" * 1_000_000, "application/json", 413),
        Bomb("a hundred thousand parts", parts, "multipart/form-data; boundary=a", 415),
    ]


def _zeros(count: int) -> bytes:
    """`count` zero bytes, compressed."""
    packing = zlib.compressobj(9)
    block = bytes(1_000_000)
    out = [packing.compress(block[: min(1_000_000, count - at)]) for at in range(0, count, 1_000_000)]
    return b"".join([*out, packing.flush()])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _header(width: int, height: int, depth: int, colour: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")
