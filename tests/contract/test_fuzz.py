"""Requests that nobody would send on purpose (tests/hostile.py), and bytes for every decoder. None may do
more than be refused: no 5xx, and no exception but the one that is named.
"""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.media import decode_image, decode_wav
from penstock.serving.body import parse_json
from penstock.serving.problems import Problem
from penstock.serving.web.facades.tensors import KINDS, Tensor, from_raw
from tests import hostile, probe
from tests.endpoints import application, running

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

PATHS = (
    "/v1/models/probe/predict",
    "/v1/models/talk/stream",
    "/v1/models/probe/feedback",
    "/openai/v1/chat/completions",
    "/v2/models/probe/infer",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app, _ = application()
    with running(app) as url:
        yield url


def test_what_the_document_allows_or_not_is_answered_as_it_says(url: str) -> None:
    statuses = hostile.by_the_document(url, 60)
    assert statuses[200] and statuses[422], statuses


def test_bodies_for_every_path(url: str) -> None:
    statuses = hostile.of_every_kind(url, PATHS, 60)
    assert statuses[400] and statuses[415], statuses


@pytest.mark.parametrize("bomb", hostile.bombs(), ids=lambda bomb: bomb.name.replace(" ", "-"))
def test_what_becomes_large_is_refused_while_it_is_small(url: str, bomb: hostile.Bomb) -> None:
    head = {"Content-Type": bomb.kind, **bomb.headers}
    answer = httpx.post(f"{url}/v1/models/probe/predict", content=bomb.content, headers=head, trust_env=False)
    wanted = {bomb.status} if bomb.kind != "audio/wav" else {415}  # the probe hears nothing
    assert answer.status_code in wanted, answer.text


# ---------------------------------------------------------------- bytes for decoders

DAMAGE = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6)


def damaged(raw: bytes, damage: list[tuple[int, bytes]], cut: int) -> bytes:
    out = bytearray(raw)
    for place, patch in damage:
        at = place % max(len(out), 1)
        out[at : at + len(patch)] = patch
    return bytes(out[: cut or None])


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(400))
    return file.getvalue()


def picture(kind: str, damage: list[tuple[int, bytes]], cut: int) -> None:
    try:
        picture = decode_image(damaged(probe.png(12, kind=kind), damage, cut))
        assert picture.mode == "RGB" and picture.width * picture.height <= 16_000_000
    except ValueError as error:
        assert len(str(error)) < 200 and "/" not in str(error)


def heard(damage: list[tuple[int, bytes]], cut: int) -> None:
    try:
        wave_, rate = decode_wav(damaged(sound(), damage, cut))
        assert wave_.ndim == 1 and 8000 <= rate <= 48000
    except ValueError as error:
        assert len(str(error)) < 200


def parsed(raw: bytes) -> None:
    try:
        parse_json(raw, 32)
    except Problem as problem:
        assert problem.status == 400


def read(kind: str, shape: list[int], raw: bytes) -> None:
    try:
        assert len(from_raw(Tensor("x", kind, shape), memoryview(raw))) <= 300
    except Problem as problem:
        assert problem.status in (400, 422)


DECODERS = {
    "pictures": (picture, [st.sampled_from(["PNG", "JPEG"]), DAMAGE, st.integers(0, 200)]),
    "sounds": (heard, [DAMAGE, st.integers(0, 200)]),
    "JSON": (parsed, [st.binary(max_size=300) | st.text(max_size=200).map(str.encode) | st.just(b"[" * 500)]),
    "tensors": (
        read,
        [
            st.sampled_from([*KINDS, "BYTES", "FP8", ""]),
            st.lists(st.integers(-3, 70), min_size=1, max_size=4),
            st.binary(max_size=300),
        ],
    ),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("inputs", [60, pytest.param(50_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_refuses_or_answers(name: str, inputs: int, figures: Callable[..., None]) -> None:
    decode, parts = DECODERS[name]
    slowest = [0.0]

    @hostile.calm(inputs)
    @given(st.tuples(*parts))
    def check(given_: tuple[Any, ...]) -> None:
        began = time.perf_counter()
        decode(*given_)
        slowest[0] = max(slowest[0], time.perf_counter() - began)

    check()
    figures({"inputs": inputs, "slowest_ms": round(1000 * slowest[0], 1)})
