"""What was answered lately, by request id, for those who come back with the truth."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MOST = 10_000
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answered:
    """An answer, and who gave it."""

    app: str
    title: str
    answer: bytes


class Memory:
    """The newest answers of one gateway; none that is larger than a hundredth of what there is room for."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._bytes = 0

    def keep(self, request_id: str, answered: Answered) -> None:
        size = len(answered.answer)
        if size > _MOST_BYTES // 100:
            return
        self.take(request_id)
        self._answers[request_id] = answered
        self._bytes += size
        while len(self._answers) > _MOST or self._bytes > _MOST_BYTES:
            _, old = self._answers.popitem(last=False)
            self._bytes -= len(old.answer)

    def take(self, request_id: str) -> Answered | None:
        """What was answered; it is forgotten, so that nobody's word counts twice."""
        found = self._answers.pop(request_id, None)
        if found is not None:
            self._bytes -= len(found.answer)
        return found
