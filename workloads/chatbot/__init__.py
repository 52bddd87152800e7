"""Chatbot: the next turn of a conversation, word by word."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.chatbot.config import Config, Data, Net
from workloads.chatbot.messages import ChatAnswer, ChatRequest

workload = Workload(
    name="chatbot",
    config=Config,
    sources={
        "jsonl": "workloads.chatbot.jsonl:Jsonl",
        "yaml": "workloads.chatbot.yaml_corpus:Yaml",
        "text": "workloads.chatbot.text:PlainText",
        "synthetic": "workloads.chatbot.synthetic:Synthetic",
    },
    decode="workloads.chatbot.data:decode",
    fit="workloads.chatbot.tokenizer:fit",
    trainers={"supervised": "workloads.chatbot.task:ChatTask"},
    predictor="workloads.chatbot.predict:ChatPredictor",
    evaluator="workloads.chatbot.evaluate:ChatEvaluator",
    request=ChatRequest,
    answer=ChatAnswer,
    exporter="workloads.chatbot.export:export",
    goal=Goal("bits_per_byte", "min"),
    space={
        "optim.lr": Span(3e-4, 5e-3, log=True),
        "optim.weight_decay": Span(1e-2, 3e-1, log=True),
        "model.dropout": Span(0.0, 0.5),
        "model.layers": Span(2, 6, integer=True),
        "model.width": Choice((96, 128, 160, 192)),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            data=Data(vocabulary=512, dialogues=2000),
            model=Net(width=96, layers=2, dropout=0.1),
            optim=Optim(lr=5e-3, weight_decay=0.1, betas=(0.9, 0.98), warmup_steps=20),
            train=Train(epochs=14, batch=32, ema=0.98, checkpoint_every=50, validate_every=7),
        ),
        "lstm": Config(
            model=Net(kind="lstm", width=192, layers=1),
            train=Train(epochs=15, batch=64, ema=0.99, checkpoint_every=50, validate_every=3),
        ),
        "gpu": Config(
            data=Data(vocabulary=8192),
            model=Net(width=512, layers=8, heads=8, packed=512),
            optim=Optim(lr=6e-4, weight_decay=0.1, betas=(0.9, 0.98), warmup_steps=200),
            train=Train(epochs=20, batch=512, ema=0.999, precision="bf16", checkpoint_every=200),
        ),
    },
    summary="the next turn of a conversation, sampled or likeliest, in pieces as it comes",
)
