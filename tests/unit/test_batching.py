"""The batcher: who is answered together, and what one request can do to another (nothing)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from penstock.serving.limits import Limits
from penstock.serving.on_ray.batching import Batcher
from penstock.workload import Refusal


class Number(BaseModel):
    value: int


class Doubler:
    """Doubles; fails on 13, refuses negative numbers, answers too few when it sees 99."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def predict(self, requests: Sequence[Number]) -> Sequence[Number | Refusal]:
        values = [request.value for request in requests]
        self.batches.append(values)
        assert self.go.wait(30)
        if 13 in values:
            raise RuntimeError("thirteen")
        answers = [Refusal("negative", "/value") if v < 0 else Number(value=2 * v) for v in values]
        return answers[:-1] if 99 in values else answers


def value(reply: object) -> int:
    assert isinstance(reply, dict)
    return Number.model_validate_json(reply["answer"]).value


async def wait_for_batches(doubler: Doubler, count: int) -> None:
    while len(doubler.batches) < count:
        await asyncio.sleep(0.001)


def test_what_waits_while_a_batch_is_computed_is_the_next_batch() -> None:
    async def play() -> None:
        doubler = Doubler()
        batcher = Batcher(doubler, Limits(batch=4, batch_wait_s=0))
        doubler.go.clear()
        first = asyncio.create_task(batcher.ask(Number(value=0)))
        await wait_for_batches(doubler, 1)
        rest = [asyncio.create_task(batcher.ask(Number(value=n))) for n in range(1, 7)]
        await asyncio.sleep(0)
        doubler.go.set()
        assert [value(reply) for reply in await asyncio.gather(first, *rest)] == [0, 2, 4, 6, 8, 10, 12]
        assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6]]

    asyncio.run(play())


@pytest.mark.parametrize("bad", [13, 99])
def test_a_request_that_breaks_the_predictor_spoils_no_other(bad: int) -> None:
    async def play() -> None:
        batcher = Batcher(Doubler(), Limits(batch=8, batch_wait_s=0.01))
        replies = await asyncio.gather(*(batcher.ask(Number(value=n)) for n in (1, bad, -1, 2)))
        assert [value(replies[0]), value(replies[3])] == [2, 4]
        assert "fault" in replies[1]
        assert replies[2]["refusal"] == [("/value", "negative")]
        assert value(await batcher.ask(Number(value=5))) == 10

    asyncio.run(play())


def test_requests_given_up_leave_the_queue_and_no_batch_stands_still() -> None:
    async def play() -> None:
        doubler = Doubler()
        batcher = Batcher(doubler, Limits(batch=4, batch_wait_s=0))
        doubler.go.clear()
        running = asyncio.create_task(batcher.ask(Number(value=0)))
        await wait_for_batches(doubler, 1)
        given_up = [asyncio.create_task(batcher.ask(Number(value=n))) for n in range(100, 120)]
        kept = asyncio.create_task(batcher.ask(Number(value=1)))
        await asyncio.sleep(0)
        for task in [running, *given_up]:
            task.cancel()
        doubler.go.set()
        assert value(await kept) == 2
        assert value(await batcher.ask(Number(value=2))) == 4
        assert [0] in doubler.batches and not any(n >= 100 for batch in doubler.batches for n in batch)

    asyncio.run(play())


def test_a_batch_that_never_ends_makes_the_replica_unhealthy() -> None:
    async def play() -> None:
        doubler = Doubler()
        batcher = Batcher(doubler, Limits(batch_wait_s=0, stuck_s=0.05))
        batcher.check()
        doubler.go.clear()
        stuck = asyncio.create_task(batcher.ask(Number(value=0)))
        await wait_for_batches(doubler, 1)
        await asyncio.sleep(0.1)
        with pytest.raises(RuntimeError, match="not finished"):
            batcher.check()
        doubler.go.set()
        await stuck
        batcher.check()

    asyncio.run(play())
