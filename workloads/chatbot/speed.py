"""How much faster replies come with kept keys and values, and together: ratios of tokens a second.

`python -m workloads.chatbot.speed` takes the default network with weights of chance; all three ways in turn,
several times, in one thread, by CPU time, which other work on the machine changes less. Prints medians, as
JSON.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from typing import cast

import torch

from penstock.nn import one_thread
from workloads.chatbot.config import Config
from workloads.chatbot.model import Talker
from workloads.chatbot.transformer import Transformer

TOKENS, TOGETHER, ROUNDS = 256, 8, 7
PROMPT = [*range(1, 13)]


def cached(talker: Talker, prompts: Sequence[Sequence[int]]) -> float:
    """Tokens a CPU second of replies to `prompts`, made together."""
    began = time.process_time()
    start = talker.begin(prompts, TOKENS)
    scores = start.scores
    for _ in range(TOKENS - 1):
        scores = talker.step(start.state, scores.argmax(1))
    return len(prompts) * TOKENS / (time.process_time() - began)


def uncached(talker: Talker, prompt: Sequence[int]) -> float:
    """Tokens a CPU second of one reply when everything is read again for each."""
    began, seen = time.process_time(), [*prompt]
    for _ in range(TOKENS):
        seen.append(int(talker.begin([seen], 0).scores.argmax()))
    return TOKENS / (time.process_time() - began)


def main() -> None:
    config = Config()
    torch.manual_seed(0)
    talker = cast(Talker, Transformer(config.model, config.data.vocabulary + 4, 0).eval())
    ways: dict[str, list[float]] = {"one": [], "without cache": [], "together": []}
    with torch.inference_mode(), one_thread():
        for _ in range(ROUNDS):
            ways["one"].append(cached(talker, [PROMPT]))
            ways["without cache"].append(uncached(talker, PROMPT))
            ways["together"].append(cached(talker, [PROMPT] * TOGETHER))
    ratios = {
        name: statistics.median(a / b for a, b in zip(ways[over], ways[under], strict=True))
        for name, over, under in (("cache", "one", "without cache"), ("batch of 8", "together", "one"))
    }
    speeds = {name: round(statistics.median(values), 1) for name, values in ways.items()}
    print(json.dumps({"tokens_per_s": speeds, "ratios": ratios}))


if __name__ == "__main__":
    main()
