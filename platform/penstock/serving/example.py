"""A workload's example request: what it is, and whether a predictor answers it."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from penstock.errors import ModelError
from penstock.workload import Predictor, Refusal


def example(model: type[BaseModel]) -> dict[str, Any]:
    """The first example a pydantic model declares of itself, else one built of its fields' own."""
    schema = model.model_json_schema()
    given = schema.get("examples") or ([schema["example"]] if "example" in schema else [])
    if given:
        return copy.deepcopy(dict(given[0]))
    fields = schema.get("properties", {})
    return {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}


def answer_example(
    predictor: Predictor[Any, Any], request: type[BaseModel], title: str, times: int = 1
) -> None:
    """ModelError unless version `title` answers the example of its workload, `times` in one batch."""
    try:
        asked = [request.model_validate(example(request)) for _ in range(times)]
        for answer in predictor.predict(asked):
            if isinstance(answer, Refusal):
                raise ModelError(answer.detail)
    except Exception as error:  # whatever a stranger's predictor does
        raise ModelError(f"{title} does not answer its own example: {error}"[:300]) from error
