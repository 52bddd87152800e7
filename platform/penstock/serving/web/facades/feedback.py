"""Labels that come back: what the right answer to an earlier request would have been."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from penstock.serving.front import Front
from penstock.serving.problems import Problem


class Feedback(BaseModel):
    """`truth`: what a row of the workload's data holds beside the request, such as {"label": "seven"}."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$", description="X-Request-Id of the answer")
    truth: dict[str, Any] = Field(min_length=1, max_length=32)


def add(app: FastAPI, front: Front) -> None:
    """Adds the path."""

    @app.post("/v1/models/{name}/feedback")
    async def feedback(name: str, request: Request) -> Response:
        front.choose(name, request)
        said = await front.told(Feedback, request)
        answered = front.memory.take(said.request_id)
        if answered is None:
            if front.pass_on is None:
                raise Problem(404, "no answer with that request_id is remembered here")
            front.pass_on(said.request_id, said.truth)  # another gateway may have given that answer
            return JSONResponse({"request_id": said.request_id, "scored": False}, status_code=202)
        if answered.title.partition("@")[0] != name.partition("@")[0]:
            raise Problem(404, f"that answer was not given by {name.partition('@')[0]}")
        await front.judge(answered, said.truth, request)
        body_out = {"request_id": said.request_id, "scored": True}
        return JSONResponse(body_out, status_code=202, headers={"X-Model": answered.title})
