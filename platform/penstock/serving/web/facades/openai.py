"""The chat protocol of OpenAI, for the models that stream words: any client of it works with
`base_url=…/openai/v1`. What the protocol has and the model has not is refused when it would change the
answer, and ignored when it would not."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from penstock.serving.front import Front
from penstock.serving.problems import Problem, shorten
from penstock.serving.versions.traffic import Way
from penstock.serving.web.facades.events import stream

PREFIX = "/openai/"
_DONE = "data: [DONE]\n\n"
_FINISH = {"length": "length"}
"""What an answer's `finish` is called there; "stop" for anything else."""


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class Completion(BaseModel):
    """The request, as far as it is understood."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(max_length=256)
    messages: list[Message] = Field(min_length=1, max_length=1000)
    n: Literal[1] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    tools: list[Any] | None = Field(None, max_length=0, description="none are known")

    def values(self, fields: set[str]) -> dict[str, Any]:
        """As a request with these `fields`."""
        most = self.max_completion_tokens or self.max_tokens
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        given = {
            "messages": [_message(message) for message in self.messages],
            "max_tokens": most,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": stop,
        }
        return {name: value for name, value in given.items() if value is not None and name in fields}


def _message(message: Message) -> dict[str, str]:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    return {"role": "system" if message.role == "developer" else message.role, "content": text}


def add(app: FastAPI, front: Front) -> None:
    """Adds the paths."""

    @app.get("/openai/v1/models")
    async def models() -> Response:
        names = {way.model.name for way in front.now().ways if "chat" in way.able}
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "penstock"} for name in sorted(names)
        ]
        return JSONResponse({"object": "list", "data": data})

    @app.post("/openai/v1/chat/completions")
    async def complete(request: Request) -> Response:
        asked = await front.told(Completion, request)
        way = chatting(front, asked.model, request)
        values = asked.values(set(way.model.workload.request.model_fields))
        head = {
            "id": f"chatcmpl-{request.headers['x-request-id']}",
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.stream:
            usage = bool(asked.stream_options and asked.stream_options.include_usage)
            return await stream(
                front, asked.model, values, request, lambda piece: chunk(head, piece, usage), _DONE
            )
        answer = json.loads(await front.ask(asked.model, values, request))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer["text"]},
            "finish_reason": finish_of(answer),
        }
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage_of(answer)}
        return JSONResponse(whole, headers={"X-Model": request.state.model.title})


def error(problem: Problem) -> dict[str, Any]:
    """What that client reads of an error: it looks for no other member."""
    where = problem.errors[0][0] if problem.errors else None
    message = f"{problem.detail} ({where})" if where else problem.detail
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    return {"error": {"message": shorten(message), "type": kind, "param": where, "code": None}}


def chatting(front: Front, name: str, request: Request) -> Way:
    """The way to a model that chats; Problem 404 for any other."""
    way = front.choose(name, request)
    if "chat" not in way.able:
        raise Problem(
            404, f"{way.model.name} does not chat; POST /v1/models/{way.model.name}/predict asks it"
        )
    return way


def chunk(head: dict[str, Any], piece: str | bytes, usage: bool) -> str:
    """A piece, or the end, as the protocol's chunks."""
    if isinstance(piece, str):
        choices = [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]
        return _data({**head, "object": "chat.completion.chunk", "choices": choices})
    answer = json.loads(piece)
    choices = [{"index": 0, "delta": {}, "finish_reason": finish_of(answer)}]
    last = _data({**head, "object": "chat.completion.chunk", "choices": choices})
    if usage:
        last += _data({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(answer)})
    return last


def finish_of(answer: dict[str, Any]) -> str:
    return _FINISH.get(str(answer.get("finish", "")), "stop")


def usage_of(answer: dict[str, Any]) -> dict[str, int]:
    """Tokens, of a model that counts them; 0 where it does not."""
    prompt, reply = int(answer.get("seen") or 0), len(answer.get("tokens") or ())
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}


def _data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"
