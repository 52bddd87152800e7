"""A model as the gateway knows it: its card, its request and answer, no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penstock import catalog, registry
from penstock.errors import ModelError
from penstock.media import Media, media_fields
from penstock.serving.example import example
from penstock.store import Store
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


def choose(store: Store, references: Sequence[str]) -> list[Served]:
    """The models that `references` name, or all that are live; ModelError names what is missing."""
    versions = [registry.find(store, reference) for reference in references]
    if not references:
        versions = [one for one in registry.models(store) if registry.LIVE in one.aliases]
    if not versions:
        raise ModelError("no model is live; train one, or: penstock promote NAME VERSION live")
    served: dict[str, Served] = {}
    for version in versions:
        if version.fault:
            raise ModelError(f"{version.fault}; to serve the others, name them")
        registry.verify(version)  # here, in one line, rather than by a replica that does not start
        if version.name in served and served[version.name].version != version.version:
            raise ModelError(f"two versions of {version.name!r} are named; one is served at a time")
        model = Served(version.name, version.version, version.aliases, version.card)
        if not model.example:
            raise ModelError(f"workload {model.workload.name!r} declares no example request")
        served[version.name] = model
    return list(served.values())
