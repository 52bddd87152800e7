"""What the chatbot answers: the same in any company, by chance that can be repeated, in whole characters."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from penstock.capabilities import Chat
from penstock.evaluation import intervals
from penstock.workload import Model, Refusal, Schema
from workloads.chatbot import measures, retrieval, tokenizer
from workloads.chatbot.config import Config, Net
from workloads.chatbot.data import Turn, clean
from workloads.chatbot.evaluate import ChatEvaluator
from workloads.chatbot.generate import Reply, Writer, choose
from workloads.chatbot.messages import ChatAnswer, ChatRequest, Score
from workloads.chatbot.model import Example
from workloads.chatbot.predict import ChatPredictor, calm
from workloads.chatbot.task import ChatTask
from workloads.chatbot.tokenizer import Text

KINDS = ("transformer", "lstm")
TEXTS = [
    "Could I get a latte with oat milk, please?",
    "Grüß Gott! Einen großen Kaffee, bitte.",
    "お茶をください。ミルクは要りません。",
    "कृपया एक चाय दीजिए 🫖👩‍🍳",
    "Is this right?",
]
PAIRS = [([Turn("user", question)], reply) for question, reply in zip(TEXTS, reversed(TEXTS), strict=True)]


def schema_of(labels: tuple[str, ...] = ("order", "other")) -> Schema:
    words = tokenizer.learn(iter(TEXTS * 3), 340)
    return Schema(labels, assets={tokenizer.ASSET: words, retrieval.ASSET: retrieval.keep(PAIRS)})


def untrained(kind: Any, **net: Any) -> ChatPredictor:
    """Has learned nothing, but is sure of itself: scores far apart."""
    config = Config(model=Net(kind=kind, width=32, layers=2, heads=2, **net))
    torch.manual_seed(0)
    weights = dict(ChatTask(config, schema_of()).module.state_dict())
    weights["embedding.weight"] = weights["embedding.weight"] * 20
    return ChatPredictor(Model("chatbot", 0, config, schema_of(), weights), "cpu")


@pytest.fixture(scope="module", params=KINDS)
def bot(request: pytest.FixtureRequest) -> ChatPredictor:
    return untrained(request.param)


def ask(text: str, **more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": text}], **more})


def answered(bot: ChatPredictor, *requests: ChatRequest) -> list[ChatAnswer]:
    answers = bot.predict(requests)
    assert all(isinstance(answer, ChatAnswer) for answer in answers), answers
    return answers  # type: ignore[return-value]


# ---------------------------------------------------------------- tokens


@settings(deadline=None)  # a busy machine
@given(st.text())
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    words = Text(SCHEMA)
    tokens = words.encode(text)
    assert words.decode(tokens) == clean(text)
    assert all(0 <= token < words.end for token in tokens), "no message can hold a mark"


SCHEMA = schema_of()


def test_a_tokenizer_is_the_same_each_time_and_holds_every_byte() -> None:
    again = tokenizer.learn(iter(TEXTS * 3), 340)
    assert again == SCHEMA.assets[tokenizer.ASSET]
    words = Text(SCHEMA)
    assert {each for each in words.bytes if len(each) == 1} == {bytes([value]) for value in range(256)}
    assert words.size == words.end + 4 and len(words.bytes) == words.size


def test_a_conversation_is_cut_from_its_beginning_but_not_its_system_message() -> None:
    words = Text(SCHEMA)
    turns = [Turn("system", "Be brief"), *(Turn("user", f"turn {n}") for n in range(9))]
    whole = words.prompt(turns, 1000)
    assert whole.forgotten == 0 and whole.fits
    size = len(words.message(turns[0])) + len(words.message(turns[-1])) + len(words.message(turns[-2])) + 1
    cut = words.prompt(turns, size)
    assert cut.forgotten == 7 and cut.fits and len(cut.tokens) == size
    assert cut.tokens[: len(words.message(turns[0]))] == words.message(turns[0])
    assert cut.tokens[-1] == words.roles["assistant"]
    short = words.prompt(turns, 4)
    assert not short.fits and len(short.tokens) == 4


# ---------------------------------------------------------------- the same in any company


def many() -> list[ChatRequest]:
    ways: list[dict[str, Any]] = [
        {},
        {"temperature": 1.5, "seed": 3},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 2**53 - 1},
        {"max_tokens": 0, "score": "Is this right?"},
        {"max_tokens": 5, "score": ""},
        {"temperature": 2.0, "seed": 3, "stop": ["e", "お"]},
    ]
    return [ask(text, **{"max_tokens": 24, **way}) for text in TEXTS for way in ways]


def test_an_answer_does_not_depend_on_its_company(bot: ChatPredictor) -> None:
    requests = many()
    together = answered(bot, *requests)
    backwards = answered(bot, *reversed(requests))[::-1]
    for request, one, other in zip(requests, together, backwards, strict=True):
        (alone,) = answered(bot, request)
        for answer in (one, other):
            assert (answer.text, answer.tokens, answer.finish) == (alone.text, alone.tokens, alone.finish)
            assert answer.log2_probability == pytest.approx(alone.log2_probability, rel=1e-5, abs=1e-5)
            if alone.score is not None:
                assert answer.score is not None
                assert answer.score.log2_probability == pytest.approx(alone.score.log2_probability, rel=1e-5)
    assert len({tuple(answer.tokens) for answer in together}) > 10, "these tests need different replies"


def test_the_cache_changes_no_token(bot: ChatPredictor) -> None:
    (answer,) = answered(bot, ask(TEXTS[2], max_tokens=24))
    prompt = bot.text.prompt([Turn("user", TEXTS[2])], 400).tokens
    again: list[int] = []
    with calm():
        while len(again) < len(answer.tokens):
            batch = bot.talker.batch([Example(prompt, [*again, token]) for token in range(bot.text.end + 1)])
            again.append(int(bot.talker(batch).log_probability.argmax()))
    assert again == answer.tokens


def test_a_reply_is_scored_with_the_probability_it_was_made_with(bot: ChatPredictor) -> None:
    for request in many():
        (made,) = answered(bot, request.model_copy(update={"score": None}))
        if made.finish != "end" or "\ufffd" in made.text:
            continue
        tokens = list(bot.text.encode(made.text))
        if tokens != made.tokens:
            continue  # another way to cut the same text, or spaces around it
        (scored,) = answered(bot, request.model_copy(update={"score": made.text}))
        assert scored.score is not None and scored.score.tokens == len(tokens) + 1
        assert scored.score.log2_probability == pytest.approx(made.log2_probability, rel=1e-5)
        assert scored.score.bytes == len(made.text.encode())


def test_the_next_tokens_share_one_probability(bot: ChatPredictor) -> None:
    prompt = bot.text.prompt([Turn("user", "Tea?")], 400).tokens
    with calm():
        batch = bot.talker.batch([Example(prompt, [token]) for token in range(bot.text.size)])
        assert float(bot.talker(batch).log_probability.exp().sum()) == pytest.approx(1, abs=1e-5)


# ---------------------------------------------------------------- chance


def reply_to(**settings: Any) -> Reply:
    return Reply.to(ask("Tea?", **{"max_tokens": 64, **settings}))


def drawn(scores: Sequence[float], tokens: Sequence[int] = (), **settings: Any) -> Counter[int]:
    """What is chosen with many seeds."""
    found: Counter[int] = Counter()
    for seed in range(2000):
        reply = reply_to(seed=seed, **settings)
        reply.tokens = list(tokens)
        found[choose(np.array(scores), reply)] += 1
    return found


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    scores = np.log([0.5, 0.3, 0.15, 0.05])
    found = drawn(scores, temperature=1.0)
    assert [found[k] / 2000 for k in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.04)
    cooler = drawn(scores, temperature=0.5)
    assert cooler[0] / 2000 == pytest.approx(0.25 / 0.365, abs=0.04)


def test_top_k_and_top_p_leave_the_likeliest() -> None:
    scores = np.log([0.05, 0.5, 0.3, 0.15])
    assert set(drawn(scores, temperature=1.0, top_k=2)) == {1, 2}
    assert set(drawn(scores, temperature=1.0, top_p=0.5)) == {1}
    assert set(drawn(scores, temperature=1.0, top_p=0.51)) == {1, 2}
    assert set(drawn(scores, temperature=1.0, top_p=1e-9)) == {1}


def test_a_penalty_holds_back_what_was_said() -> None:
    assert set(drawn([2.0, 1.9, -1.0], [0], repetition_penalty=2.0)) == {1}
    assert set(drawn([-2.0, -2.1, -9.0], [0], repetition_penalty=2.0)) == {1}


def test_chance_hangs_on_seed_and_place_only() -> None:
    short, long = reply_to(seed=5, max_tokens=3), reply_to(seed=5, max_tokens=64)
    assert short.chance.tolist() == long.chance[:3].tolist()
    assert short.chance.tolist() != reply_to(seed=6, max_tokens=3).chance.tolist()


def test_the_same_seed_says_the_same(bot: ChatPredictor) -> None:
    replies = [answered(bot, ask(TEXTS[0], temperature=3.0, seed=seed))[0].tokens for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]
    greedy, only = (answered(bot, ask(TEXTS[0], **way))[0] for way in ({}, {"temperature": 2.0, "top_k": 1}))
    assert greedy.tokens == only.tokens


# ---------------------------------------------------------------- pieces


@settings(deadline=None)  # a busy machine
@given(st.text(), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.lists(st.integers(1, 5)))
def test_pieces_are_whole_characters_up_to_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    raw, pieces, writer = b" " + text.encode(), [], Writer(stops)
    for size in cuts:
        pieces.append(writer.write(raw[:size]))
        raw = raw[size:]
    pieces.append(writer.write(raw, last=True))
    places = [text.find(stop) for stop in stops if stop in text]
    ends = {text[: min(places)]} if places else {text}
    # a stop text that is met early ends the reply before one that begins earlier is whole
    ends |= {text[:place] for place in places}
    assert "".join(pieces) == writer.text and writer.text in ends
    assert writer.stopped == bool(places)


@settings(deadline=None)  # a busy machine
@given(st.binary(), st.lists(st.integers(1, 3)))
def test_bytes_that_are_no_text_are_marked_as_in_the_whole(raw: bytes, cuts: list[int]) -> None:
    writer, rest, pieces = Writer(()), b" " + raw, []
    for size in cuts:
        pieces.append(writer.write(rest[:size]))
        rest = rest[size:]
    pieces.append(writer.write(rest, last=True))
    assert "".join(pieces) == writer.text == raw.decode(errors="replace")


def test_a_stream_says_what_the_answer_says(bot: ChatPredictor) -> None:
    assert isinstance(bot, Chat)
    for request in many():
        *pieces, last = bot.stream(request)
        (answer,) = answered(bot, request)
        assert isinstance(last, ChatAnswer) and last.text == answer.text and last.tokens == answer.tokens
        assert "".join(map(str, pieces)) == answer.text and all(pieces)
        for stop in request.stop:
            assert stop not in answer.text


# ---------------------------------------------------------------- memory and refusals


def test_older_messages_are_forgotten_within_the_budget(bot: ChatPredictor) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"turn number {n}"} for n in range(9)]
    request = ChatRequest.model_validate({"messages": turns, "max_tokens": 4})
    (whole,) = answered(bot, request)
    (less,) = answered(bot, request.model_copy(update={"memory": whole.seen - 1}))
    assert whole.forgotten == 0 and less.forgotten == 1 and less.seen < whole.seen
    (newest,) = answered(bot, ChatRequest.model_validate({"messages": turns[1:], "max_tokens": 4}))
    assert newest.tokens == less.tokens


def test_what_cannot_be_answered_is_refused_in_one_line_and_spoils_nothing(bot: ChatPredictor) -> None:
    good = ask("Tea?", max_tokens=8)
    bad = [
        ask("x" * 600, max_tokens=8),
        ask("Tea?", max_tokens=8, memory=2),
        ask("Tea?", max_tokens=512),
        ask("Tea?", score="y" * 600),
        ChatRequest.model_validate({"messages": [{"role": "assistant", "content": "Yes?"}]}),
    ]
    answers = bot.predict([good, *bad, good])
    (alone,) = answered(bot, good)
    for kept in (answers[0], answers[-1]):
        assert isinstance(kept, ChatAnswer) and kept.tokens == alone.tokens
    for refusal in answers[1:-1]:
        assert isinstance(refusal, Refusal) and "\n" not in refusal.detail
    first = answers[1]
    assert isinstance(first, Refusal) and first.pointer == "/messages/0/content"
    said = (
        r"the last message takes \d+ tokens and 504 are left: the context holds 512, the reply may take 8; .+"
    )
    assert re.fullmatch(said, first.detail)
    assert list(bot.stream(bad[0])) == [first]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": "x"}] * 65},
        {"messages": [{"role": "user", "content": "x" * 8001}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 513},
        {"messages": [{"role": "user", "content": "x"}], "temperature": -1},
        {"messages": [{"role": "user", "content": "x"}], "top_p": 0},
        {"messages": [{"role": "user", "content": "x"}], "stop": [""]},
        {"messages": [{"role": "user", "content": "x"}], "stop": ["x"] * 9},
        {"messages": [{"role": "user", "content": "x"}], "seed": 2**53},
        {"messages": [{"role": "user", "content": "x"}], "other": 1},
    ],
)
def test_every_part_of_a_request_is_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate(wrong)


# ---------------------------------------------------------------- measures

SAID = ["Yes, the order is right.", "", "No", "One latte, coming up!", "a a a a a"]
RIGHT = ["Yes, your order is right.", "Hello", "No", "Coming right up: one latte.", "b"]


def test_chrf_and_bleu_are_sacrebleu_s() -> None:
    pairs = list(zip(SAID, RIGHT, strict=True))
    chrf = np.sum([measures.chrf_counts(*pair) for pair in pairs], 0)
    bleu = np.sum([measures.bleu_counts(*pair) for pair in pairs], 0)
    assert measures.chrf(chrf) == pytest.approx(CHRF().corpus_score(SAID, [RIGHT]).score)
    assert measures.bleu(bleu) == pytest.approx(BLEU().corpus_score(SAID, [RIGHT]).score)
    assert measures.chrf(np.zeros(measures.CHRF, int)) == 0.0


def rows() -> list[dict[str, Any]]:
    known = [0, -1, 1, 0, 1]
    return [
        {
            "item": f"{number}",
            "unit": f"{number}",
            "messages": json.dumps([["user", TEXTS[number]]]),
            "reply": right,
            "accepted": json.dumps([right, "Yes, the order is right."]),
            "labels": np.array([label] if label >= 0 else [], np.int64),
        }
        for number, (right, label) in enumerate(zip(RIGHT, known, strict=True))
    ]


def answer(text: str, intent: str, bits: float, size: int) -> ChatAnswer:
    score = Score(log2_probability=-bits, bytes=size, tokens=4)
    values = {"text": text, "finish": "end", "tokens": [1], "log2_probability": -1, "intent": intent}
    return ChatAnswer.model_validate({**values, "score": score, "seen": 3, "forgotten": 0})


def test_metrics_are_those_of_a_hand_count() -> None:
    evaluator = ChatEvaluator(Config(), schema_of())
    intents = ["order", "order", "other", "other", "other"]
    answers: list[ChatAnswer | Refusal] = [
        answer(text, intent, 10, len(right)) for text, right, intent in zip(SAID, RIGHT, intents, strict=True)
    ]
    answers[4] = Refusal("too long")
    records = evaluator.records(rows(), answers)
    found = evaluator.summarise(records)
    size = sum(map(len, RIGHT)) + 5
    assert found["bits_per_byte"] == pytest.approx((4 * 10 + 8 * 2) / size)
    assert found["perplexity"] == pytest.approx(2 ** (56 / (4 * 4 + 2)))
    assert found["exact_match"] == pytest.approx(2 / 5)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert found["exact_match/retrieval"] == 0.0
    chrf = CHRF().corpus_score([*SAID[:4], ""], [RIGHT]).score
    assert found["chrf"] == pytest.approx(chrf)
    bounds = intervals(evaluator, records.add_column(0, "unit", pa.array(list("abcde"))), n=50)
    assert all(bounds[name]["low"] is not None for name in ("bits_per_byte", "chrf", "bleu", "exact_match"))
    assert math.isnan(evaluator.summarise(records.slice(0, 0))["bits_per_byte"])
    assert "macro_f1" not in ChatEvaluator(Config(), schema_of(())).names()


def test_the_share_of_different_pairs_does_not_sink_with_the_number_of_texts() -> None:
    random = np.random.default_rng(0)
    few, lots = (measures.distinct(random.integers(0, 500, size)) for size in (1_000, 50_000))
    assert few == pytest.approx(lots, abs=0.05)
    assert measures.bigrams("A b c") == measures.bigrams("a  b c") and len(measures.bigrams("one")) == 0


def test_the_report_shows_ten_conversations_as_text_not_as_markup() -> None:
    evaluator = ChatEvaluator(Config(), schema_of())
    twelve = [replaced | {"messages": json.dumps([["user", "<b>Tea</b>?"]])} for replaced in rows()[:4] * 3]
    answers = [answer("<script>", "order", 1, 1)] * 12
    talk, confusion = evaluator.figures(evaluator.records(twelve, answers), twelve, answers)
    assert talk.title == "Ten conversations" and talk.html.count("<dl") == 10
    assert "<script>" not in talk.html and "&lt;b&gt;Tea&lt;/b&gt;?" in talk.html
    assert confusion.title == "Confusion matrix"


def test_a_model_without_intents_names_none() -> None:
    config = replace(Config(), model=Net(width=32, layers=1, heads=2, intents=False))
    torch.manual_seed(0)
    weights = ChatTask(config, SCHEMA).module.state_dict()
    (found,) = answered(ChatPredictor(Model("chatbot", 0, config, SCHEMA, weights), "cpu"), ask("Tea?"))
    assert found.intent is None and found.intents == {}
