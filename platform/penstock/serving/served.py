"""A model as the gateway knows it: its card, its request and answer, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penstock import catalog
from penstock.media import Media, media_fields
from penstock.serving.example import example
from penstock.workload import Workload


@dataclass(frozen=True)
class Served:
    """One served name. All of it is plain values, so that it travels between processes as such."""

    name: str
    version: int
    aliases: tuple[str, ...]
    card: Mapping[str, Any]

    @cached_property
    def workload(self) -> Workload[Any]:
        """The installed workload that the card names, and only that one."""
        return catalog.find_reference(self.card["workload"], self.card["reference"])

    def prepare(self) -> None:
        """Imports the workload and works out what requests to it need, from any thread: done by the first
        request, it would keep all others waiting."""
        self.example, self.media  # noqa: B018

    @property
    def title(self) -> str:
        """name@version, as X-Model says it."""
        return f"{self.name}@{self.version}"

    @cached_property
    def media(self) -> dict[str, Media]:
        """The request's fields of bytes."""
        return media_fields(self.workload.request)

    @cached_property
    def example(self) -> dict[str, Any]:
        """A request that works, as JSON values."""
        return example(self.workload.request)

    def summary(self) -> dict[str, Any]:
        """Its line in the list of models."""
        goal = self.workload.goal
        value = self.card.get("metrics", {}).get(goal.metric)
        return {
            "name": self.name,
            "version": self.version,
            "alias": self.aliases[0] if self.aliases else None,
            "aliases": list(self.aliases),
            "workload": self.card["workload"],
            "summary": self.workload.summary,
            "goal": {"metric": goal.metric, "mode": goal.mode, **(value or {})},
        }

    def detail(self) -> dict[str, Any]:
        """Everything a client needs to know: the card, the schemas, a request that works."""
        request, answer = self.workload.request, self.workload.answer
        return {
            **self.summary(),
            "card": dict(self.card),
            "request": request.model_json_schema(),
            "answer": answer.model_json_schema(mode="serialization"),
            "example": {"request": self.example, "answer": example(answer) or None},
            "media_types": sorted({kind for field in self.media.values() for kind in field.types}),
        }
