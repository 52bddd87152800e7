"""How the chatbot learns: slices add up, packing and dropout mind no company, kills change nothing."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penstock.config import build
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.evaluation import score
from penstock.nn import Place, name_layers, stand_at
from penstock.store import Store
from penstock.workload import Model
from tests.learning import goes_on_bit_for_bit, learn
from workloads.chatbot import workload
from workloads.chatbot.config import Config, Data, Net
from workloads.chatbot.data import conversation
from workloads.chatbot.messages import ChatAnswer, ChatRequest
from workloads.chatbot.model import Example
from workloads.chatbot.predict import ChatPredictor
from workloads.chatbot.task import LEAST_PROMPT, ChatTask, example
from workloads.chatbot.transformer import shelves

SMOKE = workload.presets["smoke"]
KINDS = ("transformer", "lstm")


pytestmark = pytest.mark.usefixtures("one_thread_each")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("chatbot"))


@pytest.fixture(scope="module")
def synthetic(made: Store) -> Dataset:
    return prepare(workload, "synthetic", SMOKE.data, made, mapper=in_process)


def task_of(kind: str, dataset: Dataset, *words: str) -> ChatTask:
    torch.manual_seed(0)
    task = ChatTask(build(Config, SMOKE, None, [f"model.kind={kind}", *words]), dataset.schema)
    task.module.double()
    return task


def items(dataset: Dataset, low: int, high: int) -> Items:
    return Items(dataset.train, range(low, high), ItemDraws(0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_a_batch_add_up_to_the_whole_however_uneven(kind: str, synthetic: Dataset) -> None:
    task = task_of(kind, synthetic, "model.dropout=0.3", "model.packed=60")
    name_layers(task.module)
    task.module.train()

    def gradients(*edges: int) -> dict[str, torch.Tensor]:
        task.module.zero_grad()
        weights = 0.0
        for low, high in itertools.pairwise(edges):
            stand_at(Place(0, 0, "loss", low, high - low, edges[-1]))
            total, weight = task.loss(task.collate(items(synthetic, low, high)))
            total.backward()
            weights += weight
        stand_at(None)
        tokens = sum(len(task.text.encode(synthetic.train.row(i)["reply"])) + 1 for i in range(edges[-1]))
        assert weights == tokens, "the weight is the tokens of the replies and their ends"
        return {n: p.grad.clone() for n, p in task.module.named_parameters() if p.grad is not None}

    whole, parts = gradients(0, 7), gradients(0, 3, 3, 4, 7)
    assert whole.keys() == dict(task.module.named_parameters()).keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_that_share_a_batch_do_not_see_each_other(kind: str, synthetic: Dataset) -> None:
    task = task_of(kind, synthetic, "model.packed=90")
    task.module.eval()
    together = task.module(task.collate(items(synthetic, 0, 9)))
    alone = [task.module(task.collate(items(synthetic, i, i + 1))) for i in range(9)]
    for i, one in enumerate(alone):
        torch.testing.assert_close(together.log_probability[i], one.log_probability[0])
        torch.testing.assert_close(together.intents[i], one.intents[0])


def test_only_the_reply_and_its_end_are_learned(synthetic: Dataset) -> None:
    task = task_of("transformer", synthetic)
    row = synthetic.train.row(0)
    batch = task.collate(items(synthetic, 0, 1))
    assert batch.target.tolist() == [*task.text.encode(row["reply"]), task.text.end]
    tokens = batch.tokens.flatten()
    assert tokens[batch.last].tolist() == [task.text.roles["assistant"]]
    assert tokens[batch.at[1:]].tolist() == batch.target[:-1].tolist()


def test_rows_are_filled_by_the_first_that_fits() -> None:
    rows, width = shelves([3, 9, 4, 5, 1], 10)
    assert sorted(map(sorted, rows)) == [[0, 2], [1, 4], [3]] or width <= 10
    assert sorted(number for row in rows for number in row) == [0, 1, 2, 3, 4]
    assert all(sum([3, 9, 4, 5, 1][number] for number in row) <= width for row in rows)
    assert shelves([30, 2], 10)[1] == 32 or shelves([30, 2], 10)[1] == 30
    assert shelves([], 10) == ([], 1)


def test_what_is_too_long_is_cut_from_its_beginning(synthetic: Dataset) -> None:
    text = ChatTask(SMOKE, synthetic.schema).text
    talk = json.dumps([["user", "first " * 30], ["assistant", "so"], ["user", "last"]])
    reply = [*text.encode("yes"), text.end]
    short = example(text, talk, reply, 24, -1)
    assert len(short.prompt) + len(short.reply) <= 24 and list(short.reply) == reply
    assert text.decode(short.prompt[-len(text.message(conversation(talk)[-1])) : -2]) == "last"
    long = example(text, talk, [5] * 100, 24, -1)
    assert len(long.reply) == 24 - LEAST_PROMPT and len(long.prompt) <= LEAST_PROMPT


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_bitwise_the_same_weights(kind: str, synthetic: Dataset, made: Store) -> None:
    store = Store.open(made.root / kind)
    (store.datasets / synthetic.id).symlink_to(synthetic.path)
    train = replace(SMOKE.train, epochs=1, batch=96, ema=0.9, checkpoint_every=4)
    config = replace(SMOKE, model=Net(kind=kind, width=32, layers=1, heads=2), train=train)  # type: ignore[arg-type]
    goes_on_bit_for_bit(workload, config, synthetic, store)


@pytest.fixture(scope="module")
def learned(synthetic: Dataset, made: Store) -> Model[Config]:
    """What the smoke preset learns of the grammar."""
    outcome, run = learn(workload, SMOKE, synthetic, made, "smoke")
    assert len(run.metrics.loss_curve()) >= 3 * SMOKE.train.checkpoint_every
    return Model("chatbot", 1, SMOKE, synthetic.schema, outcome.weights)


def test_smoke_learns_combinations_that_retrieval_does_not_know(
    synthetic: Dataset, learned: Model[Config]
) -> None:
    metrics = score(workload, learned, synthetic.test).metrics
    assert metrics["exact_match"] > 0.8 and metrics["macro_f1"] > 0.95 and metrics["bits_per_byte"] < 0.2
    assert metrics["exact_match/retrieval"] < 0.3


def test_it_remembers_what_it_was_told(learned: Model[Config]) -> None:
    talk = [
        {"role": "user", "content": "I am Hugo and I like chess"},
        {"role": "assistant", "content": "Nice to meet you, Hugo."},
        {"role": "user", "content": "Who am I?"},
    ]
    (answer,) = ChatPredictor(learned, "cpu").predict([ChatRequest.model_validate({"messages": talk})])
    assert isinstance(answer, ChatAnswer) and answer.text == "You are Hugo." and answer.intent == "recall"


TALK = {
    "Grüß Gott!": "Grüß Sie, was darf’s sein?",
    "Einen großen Braunen, bitte.": "Ein großer Brauner, sehr gern.",
    "Was kostet das?": "Vier Euro fünfzig.",
    "緑茶をください。": "緑茶ですね、かしこまりました。",
    "いくらですか？": "三百円です。",
    "شاي من فضلك": "حاضر، شاي واحد",
    "Дякую": "Будь ласка 🍵",
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_languages_are_learned_and_streamed_in_whole_characters(
    kind: str, tmp_path: Path, store: Store
) -> None:
    lines = [json.dumps({"question": question, "answer": reply}) for question, reply in TALK.items()]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = Data(vocabulary=300, validation=0.0)
    dataset = prepare(workload, f"jsonl:{tmp_path}", data, store, mapper=in_process)
    config = replace(SMOKE, data=data, model=Net(kind=kind, width=64, layers=1, heads=2, dropout=0.0))  # type: ignore[arg-type]
    torch.manual_seed(0)
    task = ChatTask(config, dataset.schema)
    optimiser = torch.optim.Adam(task.module.parameters(), 5e-3)
    for _ in range(250):  # by hand: the platform commits a checkpoint after each epoch, here of seven items
        total, weight = task.loss(task.collate(items(dataset, 0, len(TALK))))
        optimiser.zero_grad()
        (total / weight).backward()
        torch.nn.utils.clip_grad_norm_(task.module.parameters(), 1.0)
        optimiser.step()
    weights = task.module.state_dict()
    bot = ChatPredictor(Model("chatbot", 1, config, dataset.schema, weights), "cpu")
    for question, reply in TALK.items():
        request = ChatRequest.model_validate({"messages": [{"role": "user", "content": question}]})
        *pieces, last = bot.stream(request)
        assert "".join(map(str, pieces)) == reply and isinstance(last, ChatAnswer) and last.text == reply
        assert not any("\ufffd" in str(piece) for piece in pieces)


def test_the_published_table_of_words_is_one(synthetic: Dataset) -> None:
    for kind in KINDS:
        names = [name for name, p in task_of(kind, synthetic).module.named_parameters() if len(p) > 300]
        table = [name for name in names if name == "embedding.weight"]
        assert len(table) == 1, names
    one = Example([1, 2], [3])
    assert one.intent == -1
