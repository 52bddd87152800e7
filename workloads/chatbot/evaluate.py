"""How answers are scored, and what the report shows."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.evaluation.measures import macro_f1, matrix
from penstock.workload import Refusal, Row, Schema
from workloads.chatbot import measures, retrieval
from workloads.chatbot.config import Config
from workloads.chatbot.data import clean, conversation
from workloads.chatbot.messages import ChatAnswer, ChatRequest, Message, Score

if TYPE_CHECKING:
    from penstock.report import Figure

REPLY_TOKENS = 96  # of a reply that is scored
SHOWN = 10  # conversations in the report
BOT, BASELINE = "", "/retrieval"
SUFFIXES = (BOT, BASELINE)


class ChatEvaluator:
    """Each row asks for a reply and for the probability of the right one. `bits_per_byte`: of the right reply
    and its end, over its UTF-8 bytes and one; `perplexity`: a token's; the others compare the replies made,
    with `…/retrieval` for the reply to the nearest known question."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.labels = schema.labels
        self.knows_intents = bool(schema.labels) and config.model.intents
        self.room = min(REPLY_TOKENS, config.model.context // 2)
        self.baseline = retrieval.retrieval_of(schema.assets[retrieval.ASSET])

    def requests(self, rows: Sequence[Row]) -> list[ChatRequest]:
        made = []
        for row in rows:
            turns = conversation(row["messages"])
            messages = [Message.model_validate({"role": role, "content": text}) for role, text in turns]
            made.append(ChatRequest(messages=messages, max_tokens=self.room, score=row["reply"]))
        return made

    def records(self, rows: Sequence[Row], answers: Sequence[ChatAnswer | Refusal]) -> pa.Table:
        scores = [score_of(row, answer) for row, answer in zip(rows, answers, strict=True)]
        intents = [list(row["labels"]) for row in rows]
        said = [
            -1 if isinstance(a, Refusal) or a.intent is None else self.labels.index(a.intent) for a in answers
        ]
        columns: dict[str, Any] = {
            "log2_probability": pa.array([score.log2_probability for score in scores], pa.float64()),
            "bytes": pa.array([score.bytes for score in scores], pa.int64()),
            "tokens": pa.array([score.tokens for score in scores], pa.int64()),
            "intent": pa.array([int(known[0]) if known else -1 for known in intents], pa.int64()),
            "said": pa.array(said, pa.int64()),
        }
        texts = {
            BOT: ["" if isinstance(answer, Refusal) else answer.text for answer in answers],
            BASELINE: [self.baseline.reply(conversation(row["messages"])[-1].text) for row in rows],
        }
        for suffix, replies in texts.items():
            columns |= compared([clean(row["reply"]) for row in rows], accepted(rows), replies, suffix)
        return pa.table(columns)

    def summarise(self, records: pa.Table) -> dict[str, float]:
        def sum_of(name: str) -> float:
            return float(records[name].to_numpy().sum())

        if not records.num_rows:
            return dict.fromkeys(self.names(), float("nan"))
        bits = -sum_of("log2_probability")
        found = {
            "bits_per_byte": bits / (sum_of("bytes") + records.num_rows),
            "perplexity": float(2 ** (bits / sum_of("tokens"))),
        }
        mixed = mixture(records)
        for suffix in SUFFIXES:
            found[f"exact_match{suffix}"] = sum_of(f"exact{suffix}") / records.num_rows
            counts = matrix(records[f"chrf{suffix}"], measures.CHRF).sum(0)
            found[f"chrf{suffix}"] = measures.chrf(counts)
            counts = matrix(records[f"bleu{suffix}"], measures.BLEU_COUNTS).sum(0)
            found[f"bleu{suffix}"] = measures.bleu(counts)
            pairs = records[f"bigrams{suffix}"].take(mixed).combine_chunks().flatten().to_numpy()
            found[f"distinct@2{suffix}"] = measures.distinct(pairs)
        truth, said = records["intent"].to_numpy(), records["said"].to_numpy()
        found["macro_f1"] = macro_f1(truth[truth >= 0], said[truth >= 0], len(self.labels))
        return {name: found[name] for name in self.names()}

    def names(self) -> list[str]:
        """The metrics, the network's own first."""
        own = ["exact_match", "chrf", "bleu", "distinct@2"]
        intents = ["macro_f1"] if self.knows_intents else []
        return ["bits_per_byte", "perplexity", *own, *intents, *(f"{name}{BASELINE}" for name in own)]

    def figures(
        self, records: pa.Table, rows: Sequence[Row], answers: Sequence[ChatAnswer | Refusal]
    ) -> list[Figure]:
        """Ten conversations, always the same ones; what was wanted and what was understood."""
        from penstock.report import Figure, confusion_figure

        shown = [self.shown(row, answer) for row, answer in zip(rows[:SHOWN], answers, strict=False)]
        caption = (
            "What was said, the bot's reply, the right one, and the reply to the nearest known question."
        )
        figures = [Figure("Ten conversations", html="\n".join(shown), caption=caption)] if shown else []
        truth, said = records["intent"].to_numpy(), records["said"].to_numpy()
        if self.knows_intents and (known := truth >= 0).any():
            figures.append(confusion_figure(truth[known], said[known], list(self.labels)))
        return figures

    def shown(self, row: Row, answer: ChatAnswer | Refusal) -> str:
        """A conversation as markup."""
        turns = conversation(row["messages"])
        reply = answer.detail if isinstance(answer, Refusal) else answer.text
        lines = [(turn.role, clean(turn.text)) for turn in turns]
        lines += [
            ("bot", reply),
            ("right", clean(row["reply"])),
            ("nearest", self.baseline.reply(turns[-1].text)),
        ]
        items = "".join(f"<dt>{html.escape(who)}</dt><dd>{html.escape(text)}</dd>" for who, text in lines)
        return f"<dl>{items}</dl>"


def mixture(records: pa.Table) -> NDArray[Any]:
    """Every item once, in an order of chance: neither copies in a bootstrap sample nor the replies of a
    dialogue, which are alike, should make texts look less different than they are."""
    if "item" in records.column_names:
        _, once = np.unique(records["item"].to_numpy().astype(str), return_index=True)
    else:
        once = np.arange(records.num_rows)
    return np.asarray(np.random.Generator(np.random.Philox(key=0)).permutation(once))


def score_of(row: Row, answer: ChatAnswer | Refusal) -> Score:
    """How likely the right reply was; refused, it costs eight bits a byte."""
    if not isinstance(answer, Refusal) and answer.score is not None:
        return answer.score
    size = len(clean(row["reply"]).encode())
    return Score(log2_probability=-8.0 * (size + 1), bytes=size, tokens=size + 1)


def accepted(rows: Sequence[Row]) -> list[list[str]]:
    """Every right reply of each row."""
    return [[str(text) for text in json.loads(row["accepted"])] for row in rows]


def compared(
    right: Sequence[str], known: Sequence[Sequence[str]], said: Sequence[str], suffix: str
) -> dict[str, Any]:
    """The columns about the texts `said` beside the right ones."""
    pairs = list(zip(said, right, strict=True))
    exact = [int(text in options) for text, options in zip(said, known, strict=True)]
    return {
        f"exact{suffix}": pa.array(exact, pa.int64()),
        f"chrf{suffix}": measures.lists([measures.chrf_counts(*pair) for pair in pairs]),
        f"bleu{suffix}": measures.lists([measures.bleu_counts(*pair) for pair in pairs]),
        f"bigrams{suffix}": measures.lists([measures.bigrams(text) for text in said]),
    }
