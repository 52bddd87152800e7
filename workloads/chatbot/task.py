"""What a training worker holds: the network, its batches and its loss, on replies only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor

from penstock.workload import Batch, Objective, Schema
from workloads.chatbot.config import Config
from workloads.chatbot.data import conversation
from workloads.chatbot.model import Example, Scores, Talker, build
from workloads.chatbot.tokenizer import Text

LEAST_PROMPT = 8  # tokens of the context that a reply never takes


class ChatTask:
    """Learns to reply, and what users want where the data says."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.text = Text(schema)
        self.module = build(config, schema)

    def collate(self, items: Batch) -> Any:
        examples = []
        for row, _ in items:
            reply = [*self.text.encode(row["reply"]), self.text.end]
            examples.append(
                example(self.text, row["messages"], reply, self.config.model.context, row["intent"])
            )
        return cast(Talker, self.module).batch(examples)

    def objectives(self) -> Sequence[Objective[Any]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Any) -> tuple[Tensor, float]:
        """Summed over the tokens of the replies, which are the weight; an intent counts as `intent_weight`
        tokens."""
        said: Scores = self.module(batch)
        loss = -said.log_probability.sum()
        if said.intents.shape[1]:
            known = batch.intent >= 0
            wrong = F.cross_entropy(said.intents[known], batch.intent[known], reduction="sum")
            loss = loss + self.config.model.intent_weight * wrong
        return loss, float((batch.target >= 0).sum())


def example(text: Text, messages: str, reply: Sequence[int], context: int, intent: int) -> Example:
    """What is learned from: the newest messages that fit before the reply; of what is too long by itself the
    end."""
    reply = reply[-(context - LEAST_PROMPT) :]
    prompt = text.prompt(conversation(messages), context - len(reply))
    return Example(prompt.tokens, reply, intent)
