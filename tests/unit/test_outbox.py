"""Requests that travel together: at once where nothing is on its way, gathered where something is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from penstock.serving.calls import Lost, Reply
from penstock.serving.on_ray.outbox import Outbox


class Line:
    """What an outbox sends through: calls end when they are told to."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.ends: list[asyncio.Future[Exception | None]] = []

    async def send(self, many: Sequence[Any]) -> list[Reply]:
        self.calls.append([values["n"] for values in many])
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        error = await end
        if error is not None:
            raise error
        return [Reply(answer=str(values["n"]).encode()) for values in many]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def asked(outbox: Outbox, *numbers: int, alone: bool = False) -> list[asyncio.Task[Reply]]:
    return [asyncio.create_task(outbox.ask({"n": n}, alone)) for n in numbers]


def test_the_first_leave_at_once_and_the_others_together() -> None:
    async def play() -> None:
        line = Line()
        tasks = asked(Outbox(line.send, together=3, lanes=2), *range(7))
        await settle()
        assert line.calls == [[0], [1]]  # two lanes
        line.ends[0].set_result(None)
        await settle()
        assert line.calls == [[0], [1], [2, 3, 4]]
        assert tasks[0].result() == {"answer": b"0"} and not tasks[1].done()
        for end in line.ends[1:]:
            end.set_result(None)
        await settle()
        assert line.calls[3] == [5, 6]
        line.ends[3].set_result(None)
        assert [reply["answer"] for reply in await asyncio.gather(*tasks)] == [b"%d" % n for n in range(7)]

    asyncio.run(play())


def test_who_hangs_up_is_not_sent_and_a_call_nobody_waits_for_is_given_up() -> None:
    async def play() -> None:
        line = Line()
        outbox = Outbox(line.send, together=4, lanes=1)
        first, second, third, fourth = asked(outbox, 0, 1, 2, 3)
        await settle()
        second.cancel()
        await settle()
        first.cancel()
        await settle()
        assert line.ends[0].cancelled()
        assert line.calls == [[0], [2, 3]]
        third.cancel()
        await settle()
        assert not line.ends[1].done(), "the fourth still waits for it"
        line.ends[1].set_result(None)
        assert (await fourth)["answer"] == b"3"

    asyncio.run(play())


def test_a_call_that_fails_fails_for_all_in_it_and_the_next_goes_on() -> None:
    async def play() -> None:
        line = Line()
        outbox = Outbox(line.send, together=2, lanes=1)
        tasks = asked(outbox, 0, 1, 2, 3)
        await settle()
        line.ends[0].set_result(Lost("gone", working=True))
        await settle()
        line.ends[1].set_result(Lost("gone", working=True))
        await settle()
        line.ends[2].set_result(None)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, Lost) for one in done] == [True, True, True, False]

    asyncio.run(play())


def test_alone_waits_for_no_lane_and_shares_no_call() -> None:
    async def play() -> None:
        line = Line()
        outbox = Outbox(line.send, together=4, lanes=1)
        tasks = asked(outbox, 0, 1, 2) + asked(outbox, 9, alone=True)
        await settle()
        assert line.calls == [[0], [9]]
        for end in line.ends:
            end.set_result(None)
        await settle()
        line.ends[2].set_result(None)
        await asyncio.gather(*tasks)
        assert line.calls[2] == [1, 2]

    asyncio.run(play())


def test_an_answer_too_few_is_nobody_s() -> None:
    async def play() -> None:
        async def send(many: Sequence[Any]) -> list[Reply]:
            return []

        with pytest.raises(ValueError, match="zip"):
            await Outbox(send).ask({"n": 1})

    asyncio.run(play())
