"""Pathology: what tissue a stained picture shows, and where. A research tool, not a medical device."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.pathology.config import Config, Data, Net
from workloads.pathology.messages import PathologyAnswer, PathologyRequest

workload = Workload(
    name="pathology",
    config=Config,
    sources={
        "imagefolder": "workloads.pathology.data:ImageFolder",
        "synthetic": "workloads.pathology.synthetic:Synthetic",
    },
    decode="workloads.pathology.data:decode",
    trainers={"supervised": "workloads.pathology.task:PathologyTask"},
    predictor="workloads.pathology.predict:PathologyPredictor",
    evaluator="workloads.pathology.evaluate:PathologyEvaluator",
    request=PathologyRequest,
    answer=PathologyAnswer,
    exporter="workloads.pathology.export:export",
    goal=Goal("auroc", "max"),
    space={
        "optim.lr": Span(3e-4, 1e-2, log=True),
        "optim.weight_decay": Span(1e-3, 2e-1, log=True),
        "model.kind": Choice(("deep", "cnn")),
        "model.dropout": Span(0.0, 0.6),
        "augment.stain": Span(0.0, 0.6),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            data=Data(size=64, pictures=400),
            model=Net(width=16, dropout=0.2),
            optim=Optim(lr=1e-3, warmup_steps=10),
            train=Train(epochs=10, batch=32, ema=0.9, checkpoint_every=20, publish="last"),
        ),
        "gpu": Config(
            data=Data(size=224),
            model=Net(kind="resnet18"),
            optim=Optim(lr=1e-3, weight_decay=0.05, warmup_steps=200),
            train=Train(
                epochs=60, batch=64, ema=0.995, precision="bf16", publish="last", checkpoint_every=200
            ),
        ),
    },
    summary="tissue patches: class, probabilities and heat map; a research tool, not a medical device",
)
