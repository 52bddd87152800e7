"""Conversations to replies: the only inference code of this workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch

from penstock.nn import one_thread
from penstock.workload import Model, Refusal
from workloads.chatbot.config import Config
from workloads.chatbot.data import Turn, clean
from workloads.chatbot.generate import LOG2, Reply, speak
from workloads.chatbot.messages import ChatAnswer, ChatRequest, Score
from workloads.chatbot.model import Example, Talker, build
from workloads.chatbot.tokenizer import Prompt, Text

TOGETHER = 16  # conversations at a time


class Job(NamedTuple):
    """A request that can be answered."""

    request: ChatRequest
    prompt: Prompt
    scored: Sequence[int]  # tokens of the reply to score and its end; none where nobody asks


class ChatPredictor:
    """A loaded chatbot, answering a batch of conversations at a time, or one in pieces (capability Chat)."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.labels = model.schema.labels if model.config.model.intents else ()
        self.context = model.config.model.context
        self.text = Text(model.schema)
        module = build(model.config, model.schema)
        module.load_state_dict(dict(model.weights))
        module.float().to(device).eval().requires_grad_(False)
        self.talker = cast(Talker, module)
        self.device = device

    def predict(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | Refusal]:
        jobs = [self.job(request) for request in requests]
        good = [place for place, job in enumerate(jobs) if isinstance(job, Job)]
        # alike in length, they wait less for each other
        good.sort(key=lambda place: len(cast(Job, jobs[place]).prompt.tokens))
        answers: list[ChatAnswer | Refusal] = [job if isinstance(job, Refusal) else STAND_IN for job in jobs]
        with calm():
            for start in range(0, len(good), TOGETHER):
                places = good[start : start + TOGETHER]
                for place, answer in zip(
                    places, self.answer([cast(Job, jobs[p]) for p in places]), strict=True
                ):
                    answers[place] = answer
        return answers

    def stream(self, request: ChatRequest) -> Iterator[str | ChatAnswer | Refusal]:
        """The reply in pieces, none of which splits a character, then the whole answer."""
        job = self.job(request)
        if isinstance(job, Refusal):
            yield job
            return
        with calm():
            state, scores, intents = self.talker.begin([job.prompt.tokens], request.max_tokens)
        reply = Reply.to(request)
        turns = speak(self.talker, self.text, state, scores, [reply])
        while True:
            with calm():  # never while somebody else has the word
                if next(turns, None) is None:
                    break
            if reply.piece:
                yield reply.piece
        with calm():
            yield self.said(job, reply, intents[0])

    # ------------------------------------------------------------ requests

    def job(self, request: ChatRequest) -> Job | Refusal:
        """What is to be done, or why it cannot be."""
        if request.messages[-1].role != "user":
            return Refusal(
                "the last message must be the user's", f"/messages/{len(request.messages) - 1}/role"
            )
        scored: list[int] = []
        if request.score is not None:
            scored = [*self.text.encode(request.score), self.text.end]
        reserved = max(request.max_tokens, len(scored))
        room = min(self.context - reserved, request.memory or self.context)
        turns = [Turn(message.role, message.content) for message in request.messages]
        prompt = self.text.prompt(turns, max(room, 1))
        if prompt.fits and room > 0:
            return Job(request, prompt, scored)
        place = f"/messages/{len(turns) - 1}/content"
        size = len(self.text.message(turns[-1])) + 1
        return Refusal(
            f"the last message takes {size} tokens and {max(room, 0)} are left: the context holds "
            f"{self.context}, the reply may take {reserved}; shorten it, or ask for less",
            place,
        )

    # ------------------------------------------------------------ answers

    def answer(self, jobs: Sequence[Job]) -> list[ChatAnswer]:
        replies = [Reply.to(job.request) for job in jobs]
        room = max(job.request.max_tokens for job in jobs)
        state, scores, intents = self.talker.begin([job.prompt.tokens for job in jobs], room)
        for _ in speak(self.talker, self.text, state, scores, replies):
            pass
        return [self.said(*one) for one in zip(jobs, replies, intents, strict=True)]

    def score(self, job: Job) -> Score | None:
        """How likely the reply is that a request brings along. One at a time, so that company changes no
        digit: the perplexity of a model that has learned little makes much of the last ones."""
        if not job.scored:
            return None
        batch = self.talker.batch([Example(job.prompt.tokens, job.scored)])
        found = self.talker(type(batch)(*(part.to(self.device) for part in batch)))
        return Score(
            log2_probability=float(found.log_probability) * LOG2,
            bytes=len(clean(job.request.score or "").encode()),
            tokens=len(job.scored),
        )

    def said(self, job: Job, reply: Reply, intents: torch.Tensor) -> ChatAnswer:
        likely = dict(zip(self.labels, intents.double().softmax(0).tolist(), strict=True))
        return ChatAnswer(
            text=reply.writer.text,
            finish=reply.finish or "length",
            tokens=reply.tokens,
            log2_probability=reply.log2_probability,
            intent=max(likely, key=lambda label: likely[label]) if likely else None,
            intents=likely,
            score=self.score(job),
            seen=len(job.prompt.tokens),
            forgotten=job.prompt.forgotten,
        )


STAND_IN = Refusal("not answered")


@contextmanager
def calm() -> Iterator[None]:
    """No gradients, and one thread: small matrices are no faster with two, and a replica has one."""
    with torch.inference_mode(), one_thread():
        yield
