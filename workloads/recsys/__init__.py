"""Recsys: what a user will like, from what was rated or watched."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.recsys.config import Config, Net
from workloads.recsys.messages import RecsysAnswer, RecsysRequest

workload = Workload(
    name="recsys",
    config=Config,
    sources={
        "csv": "workloads.recsys.data:Csv",
        "parquet": "workloads.recsys.data:Parquet",
        "synthetic": "workloads.recsys.synthetic:Synthetic",
    },
    decode="workloads.recsys.data:decode",
    fit="workloads.recsys.catalogue:fit",
    trainers={"supervised": "workloads.recsys.task:RecsysTask"},
    predictor="workloads.recsys.predict:RecsysPredictor",
    evaluator="workloads.recsys.evaluate:RecsysEvaluator",
    request=RecsysRequest,
    answer=RecsysAnswer,
    exporter="workloads.recsys.export:export",
    goal=Goal("rmse", "min"),
    space={
        "optim.lr": Span(1e-3, 2e-2, log=True),
        "optim.weight_decay": Span(1e-3, 1.0, log=True),
        "model.heads": Choice((4, 8, 16)),
        "model.hidden": Choice((16, 32, 64)),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            optim=Optim(lr=1e-2, weight_decay=0.01, warmup_steps=10),
            train=Train(epochs=8, batch=40, checkpoint_every=25, validate_every=2),
        ),
        "dense": Config(
            model=Net(kind="dense", width=32),
            optim=Optim(lr=1e-3, weight_decay=1.0),
            train=Train(epochs=15, batch=32, checkpoint_every=200),
        ),
        "factors": Config(
            model=Net(kind="factors", width=32),
            optim=Optim(lr=1e-3, weight_decay=1.0),
            train=Train(epochs=10, batch=32, checkpoint_every=200),
        ),
        "sasrec": Config(
            model=Net(kind="sasrec", heads=2, layers=1, dropout=0.1),
            optim=Optim(lr=1e-3, weight_decay=2.0, warmup_steps=60),
            train=Train(epochs=20, batch=64, ema=0.99, checkpoint_every=200, publish="last"),
        ),
        "itemknn": Config(
            model=Net(kind="itemknn"),
            optim=Optim(lr=2e-2, weight_decay=0.0),
            train=Train(epochs=3, batch=64, publish="last"),
        ),
        "bias": Config(
            model=Net(kind="bias"),
            optim=Optim(lr=1e-4, weight_decay=0.0),
            train=Train(epochs=3, batch=64),
        ),
        "popularity": Config(
            model=Net(kind="popularity"),
            optim=Optim(lr=1e-3, weight_decay=0.0),
            train=Train(epochs=3, batch=64, publish="last"),
        ),
        "gpu": Config(
            model=Net(kind="sasrec", width=256, heads=4, layers=4, history=200),
            train=Train(epochs=60, batch=512, ema=0.999, precision="bf16", publish="last"),
        ),
    },
    summary="what to watch next: recommendations and predicted ratings for known and new users",
)
