"""An endpoint in this process, without Ray: the real application under uvicorn, models in a thread."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import uvicorn

from penstock import registry
from penstock.capabilities import NAMES
from penstock.evaluation import records_of
from penstock.serving.calls import Piece, Reply
from penstock.serving.front import Front
from penstock.serving.limits import Limits
from penstock.serving.on_ray.batching import Batcher, reply_of
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Traffic, Way
from penstock.serving.web.access import Keyring
from penstock.serving.web.door import App
from penstock.serving.web.routes import create_app
from penstock.store import Store
from penstock.workload import Model, Refusal, Schema, resolve
from tests import probe, toy
from workloads.chatbot.messages import ChatRequest


class Probe:
    """The probe's own predictor, batched (penstock.serving.calls.Models)."""

    def __init__(self, limits: Limits) -> None:
        weights = {"scale": torch.tensor(1.0), "delay_s": torch.tensor(0.0)}
        model: Any = Model("probe", 1, None, Schema(("left", "right")), weights)
        self.predictor = probe.Predictor(model, "cpu")
        self.batcher = Batcher(self.predictor, limits)

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        return await self.batcher.ask(probe.Request.model_validate(values))

    async def ready(self, app: str) -> bool:
        return True


class Talker:
    """Says the words of the last message backwards, one by one (penstock.serving.calls.Models)."""

    def answer(self, values: Mapping[str, Any]) -> dict[str, Any]:
        request = ChatRequest.model_validate(values)
        words = request.messages[-1].content.split()[::-1]
        kept = words[: request.max_tokens]
        finish = "length" if len(kept) < len(words) else "end"
        about = {"log2_probability": -1.0, "seen": len(words), "forgotten": 0}
        return {"text": " ".join(kept), "finish": finish, "tokens": list(range(len(kept))), **about}

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        return Reply(answer=json.dumps(self.answer(values)).encode())

    async def stream(self, app: str, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        answer = self.answer(values)
        text = values["messages"][-1]["content"]
        if text == "refuse":
            yield Piece(refusal=[("/messages/0/content", "no")])
            return
        for number, word in enumerate(answer["text"].split()):
            if text.startswith("break") and number == 1:
                yield Piece(fault="secret: it broke")
                return
            yield Piece(text=word if number == 0 else f" {word}")
        yield Piece(answer=json.dumps(answer).encode())

    async def ready(self, app: str) -> bool:
        return True


class Both:
    """Two models behind one application."""

    def __init__(self, limits: Limits) -> None:
        self.models: dict[str, Any] = {"model-probe-a": Probe(limits), "model-talk-a": Talker()}
        self.evaluator = toy.Evaluator(toy.Config(), Schema(("left", "right")))

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        reply: Reply = await self.models[app].call(app, values)
        return reply

    def stream(self, app: str, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        found: AsyncIterator[Piece] = self.models[app].stream(app, values)
        return found

    async def position(self, app: str, values: Mapping[str, Any]) -> Reply:
        return reply_of(Refusal("no game here"))

    async def judge(self, app: str, answer: bytes, truth: Mapping[str, Any]) -> Reply:
        if "label" not in truth:
            return Reply(refusal=[("/truth", "it cannot be scored: 'label'")])
        said = toy.Answer(label="left", score=json.loads(answer)["red"])
        row = {"item": "", "unit": "", "label": ("left", "right").index(truth["label"])}
        return Reply(answer=json.dumps(records_of(self.evaluator, [row], [said]).to_pylist()).encode())

    async def ready(self, app: str) -> bool:
        return True


def application(limits: Limits | None = None, keyring: Keyring | None = None) -> tuple[App, Front]:
    """The application in front of `probe@1` and a `talk@3` that chats."""
    bounds = limits or Limits()
    card = {"workload": "probe", "reference": "tests.probe:workload", "metrics": {}}
    chat = {"workload": "chatbot", "reference": "workloads.chatbot:workload", "metrics": {}}
    ways = (
        Way("model-probe-a", Served("probe", 1, ("live",), card), able=("frames",)),
        Way("model-talk-a", Served("talk", 3, ("live",), chat), able=("chat",)),
    )
    traffic = Traffic(1, ways)
    front = Front(lambda: traffic, Both(bounds), bounds)
    return create_app(front, keyring), front


@contextmanager
def running(app: App) -> Iterator[str]:
    """The URL at which `app` answers while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class InProcess:
    """Every live model of a store, loaded into this process (penstock.serving.calls.Models)."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.ways: list[Way] = []
        self.loaded: dict[str, tuple[Any, Any, Batcher]] = {}
        for version in registry.models(store):
            if registry.LIVE in version.aliases:
                workload = registry.workload_of(version)
                predictor = resolve(workload.predictor)(registry.load(store, version), "cpu")
                able = tuple(name for name, kind in NAMES.items() if isinstance(predictor, kind))
                app = f"model-{version.name}-a"
                self.loaded[app] = workload, predictor, Batcher(predictor, limits)
                served = Served(version.name, version.version, version.aliases, version.card)
                self.ways.append(Way(app, served, able=able))

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        workload, _, batcher = self.loaded[app]
        return await batcher.ask(workload.request.model_validate(values))

    async def stream(self, app: str, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        workload, predictor, batcher = self.loaded[app]
        pieces = predictor.stream(workload.request.model_validate(values))
        while isinstance(piece := await batcher.run(partial(next, pieces, None)), str):
            yield Piece(text=piece)
        yield Piece(**reply_of(piece))

    async def position(self, app: str, values: Mapping[str, Any]) -> Reply:
        workload, predictor, batcher = self.loaded[app]
        request = workload.request.model_validate(values)
        found = await batcher.run(partial(predictor.position, request))
        if isinstance(found, Refusal):
            return reply_of(found)
        return Reply(answer=json.dumps(asdict(found)).encode())

    async def judge(self, app: str, answer: bytes, truth: Mapping[str, Any]) -> Reply:
        return reply_of(Refusal("answers are not scored here", "/truth"))

    async def ready(self, app: str) -> bool:
        return True


def serving(store: Store, limits: Limits | None = None) -> App:
    """The application in front of every live model of a store."""
    bounds = limits or Limits()
    models = InProcess(store, bounds)
    traffic = Traffic(1, tuple(models.ways))
    return create_app(Front(lambda: traffic, models, bounds))
