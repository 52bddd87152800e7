"""A model as the gateway knows it: its card, its request and answer, no weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from penstock import catalog
from penstock.media import Media, media_fields
from penstock.serving.problems import Problem, excerpt
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


def example(model: type[BaseModel]) -> dict[str, Any]:
    """The first example a pydantic model declares of itself, else one built of its fields' own."""
    schema = model.model_json_schema()
    given = schema.get("examples") or ([schema["example"]] if "example" in schema else [])
    if given:
        return copy.deepcopy(dict(given[0]))
    fields = schema.get("properties", {})
    return {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}


def find(models: Sequence[Served], reference: str) -> Served:
    """The model that `name`, `name@alias` or `name@version` means; Problem 404 lists what is served."""
    name, _, which = reference.partition("@")
    for model in models:
        if model.name == name and (not which or which == str(model.version) or which in model.aliases):
            return model
    known = ", ".join(model.title for model in models)
    raise Problem(404, f"no model {excerpt(reference)!r} is served here; served: {known}")
