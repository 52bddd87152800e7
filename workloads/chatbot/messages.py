"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LAST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""
MOST_TOKENS = 512
"""Tokens of one reply."""
Text = Annotated[str, StringConstraints(max_length=8000)]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Text


class ChatRequest(BaseModel):
    """A conversation whose next turn is asked for. Same request, same answer: chance hangs on the seed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "Could I get a latte?"}], "max_tokens": 32}
            ]
        },
    )

    messages: list[Message] = Field(
        min_length=1,
        max_length=64,
        description="oldest first, the last one the user's; what does not fit the memory is forgotten, "
        "oldest first, but never a system message at the beginning",
    )
    max_tokens: int = Field(
        64, ge=0, le=MOST_TOKENS, description="of the reply; 0: no reply, with `score` or for the intent"
    )
    temperature: float = Field(0.0, ge=0, le=5, description="0: always the likeliest token")
    top_k: int = Field(0, ge=0, le=65_536, description="choose among so many tokens; 0: all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="choose among the likeliest tokens that together have this probability"
    )
    repetition_penalty: float = Field(
        1.0, ge=1, le=10, description="above 1: tokens that the reply holds already become less likely"
    )
    seed: int = Field(0, ge=0, le=LAST_SEED, description="of the chance in sampled replies")
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=64)]] = Field(
        [], max_length=8, description="texts before which the reply ends"
    )
    memory: int | None = Field(
        None, ge=1, description="tokens of the conversation that are seen at most; null: what the model holds"
    )
    score: Text | None = Field(
        None, description="a reply whose probability is asked for, beside the model's own reply"
    )


class Score(BaseModel):
    """How likely a given reply is. Its bits per byte are -log2_probability / (bytes + 1)."""

    log2_probability: float = Field(description="of the reply and of its end, given the conversation")
    bytes: int = Field(description="of the reply in UTF-8, cleaned as everything is that the model reads")
    tokens: int = Field(description="of the reply, its end included")


class ChatAnswer(BaseModel):
    """The next turn."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "text": "One latte. Is the order correct?",
                    "finish": "end",
                    "tokens": [286, 301, 14, 612],
                    "log2_probability": -21.4,
                    "intent": "order",
                    "intents": {"greeting": 0.02, "order": 0.98},
                    "score": None,
                    "seen": 9,
                    "forgotten": 0,
                }
            ]
        }
    )

    text: str
    finish: Literal["end", "stop", "length"] = Field(
        description="the reply came to its end, met a stop text, or reached max_tokens"
    )
    tokens: list[int] = Field(description="of the reply, as the model chose them")
    log2_probability: float = Field(description="of these tokens, whatever way they were chosen")
    intent: str | None = Field(None, description="what the user wants, of a model that knows intents")
    intents: dict[str, float] = Field({}, description="the probability of every intent")
    score: Score | None = Field(None, description="of the reply in the request's `score`")
    seen: int = Field(description="tokens of the conversation that the model saw")
    forgotten: int = Field(description="messages that did not fit the memory")
