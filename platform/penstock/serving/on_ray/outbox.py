"""What a gateway sends to one application: requests that have to wait anyway travel together.

A call between Ray's processes costs milliseconds, whatever it carries. While nothing is on its way a request
leaves at once and alone; while a few calls are, those that come are gathered, and leave with the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.serving.calls import Reply

Values = Mapping[str, Any]


@dataclass
class Outbox:
    """`send`: the replies to requests, in their order, or an exception that is everybody's. `together`: most
    requests in a call, those that the model would compute together; `lanes`: calls on their way."""

    send: Callable[[Sequence[Values]], Awaitable[Sequence[Reply]]]
    together: int = 1
    lanes: int = 2
    _waiting: deque[tuple[Values, asyncio.Future[Reply]]] = field(default_factory=deque)
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def ask(self, values: Values, alone: bool = False) -> Reply:
        """The reply. `alone`: in a call of its own, at once. Cancelling gives the request up."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if alone:
            self._call([(values, future)])
        else:
            self._waiting.append((values, future))
            self._fill()
        return await future

    def _fill(self) -> None:
        while self._waiting and len(self._calls) < self.lanes:
            group: list[tuple[Values, asyncio.Future[Reply]]] = []
            while self._waiting and len(group) < self.together:
                values, future = self._waiting.popleft()
                if not future.done():  # its client is still there
                    group.append((values, future))
            if group:
                self._call(group)

    def _call(self, group: list[tuple[Values, asyncio.Future[Reply]]]) -> None:
        task = asyncio.create_task(self._send(group))
        self._calls.add(task)
        task.add_done_callback(self._done)
        for _, future in group:
            future.add_done_callback(lambda _: self._given_up(group, task))

    def _given_up(self, group: list[tuple[Values, asyncio.Future[Reply]]], task: asyncio.Task[None]) -> None:
        if all(future.cancelled() for _, future in group):
            task.cancel()

    async def _send(self, group: list[tuple[Values, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self.send([values for values, _ in group])
            answered = list(zip(group, replies, strict=True))
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), reply in answered:
            if not future.done():
                future.set_result(reply)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._fill()
