"""Second chances: when there is one, when there is none, and which inputs are remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from penstock.serving.attempts import Attempts, identity
from penstock.serving.calls import Lost, Reply, Unavailable


def sender(*outcomes: Exception | Reply) -> tuple[Callable[[], Awaitable[Reply]], list[Exception | Reply]]:
    """A `send` with these outcomes in turn, and what is left of them."""
    left = list(outcomes)

    async def send(alone: bool) -> Reply:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return send, left


def died(working: bool = True) -> Lost:
    return Lost("is being started again", working)


ANSWER = Reply(answer=b"{}")


def test_a_lost_request_goes_to_another_replica_once() -> None:
    attempts = Attempts()
    send, left = sender(died(), ANSWER)
    assert asyncio.run(attempts.call("m@1", {"x": 1}, send)) == ANSWER
    assert not left and attempts.repeated == 1


def test_what_lost_two_replicas_never_reaches_a_third_and_is_known_again_for_a_while() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    send, left = sender(died(), died(), ANSWER, ANSWER, ANSWER)
    with pytest.raises(Unavailable, match="two replicas") as error:
        asyncio.run(attempts.call("m@1", {"image": b"bad"}, send))
    assert error.value.retry_after_s == 600 and len(left) == 3
    with pytest.raises(Unavailable, match="two replicas"):
        asyncio.run(attempts.call("m@1", {"image": b"bad"}, send))
    assert len(left) == 3, "it was sent"
    assert asyncio.run(attempts.call("m@1", {"image": b"good"}, send)) == ANSWER
    assert asyncio.run(attempts.call("m@2", {"image": b"bad"}, send)) == ANSWER, "another version may cope"
    now = 601.0
    assert asyncio.run(attempts.call("m@1", {"image": b"bad"}, send)) == ANSWER


def test_a_way_that_broke_is_not_the_fault_of_the_input() -> None:
    attempts = Attempts()
    send, left = sender(died(working=False), died(), ANSWER)
    with pytest.raises(Lost):
        asyncio.run(attempts.call("m@1", {}, send))
    assert asyncio.run(attempts.call("m@1", {}, send)) == ANSWER and not left


def test_a_full_queue_is_no_reason_to_send_it_again() -> None:
    send, left = sender(Unavailable("has too many requests waiting"), ANSWER)
    with pytest.raises(Unavailable, match="too many"):
        asyncio.run(Attempts().call("m@1", {}, send))
    assert len(left) == 1


def test_second_chances_are_a_share_of_the_traffic() -> None:
    """A model that dies of everything is asked at most 1.1 times as often, once what was saved is spent."""
    attempts, sent = Attempts(), 0

    async def send(alone: bool) -> Reply:
        nonlocal sent
        sent += 1
        raise died(working=False)

    async def play() -> None:
        for _ in range(1000):
            with pytest.raises(Lost):
                await attempts.call("m@1", {}, send)

    real = asyncio.sleep

    async def at_once(seconds: float) -> None:
        await real(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.serving.attempts.asyncio.sleep", at_once)
        asyncio.run(play())
    assert 1000 + 64 <= sent <= 1000 + 64 + 100


def test_the_same_input_has_the_same_identity_whatever_the_order_of_its_fields() -> None:
    one = identity("m@1", {"a": 1, "b": b"raw", "c": {"y": [1, 2], "x": None}})
    assert one == identity("m@1", {"c": {"x": None, "y": [1, 2]}, "b": b"raw", "a": 1})
    others = [{"a": 1, "b": b"raw"}, {"a": 1, "b": b"raw", "c": "y"}, {"ab": 1}, {"a": b"1"}, {"a": 1}]
    assert len({one, *(identity("m@1", values) for values in others)}) == 6
