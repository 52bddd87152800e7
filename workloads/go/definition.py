"""Go: what the platform is told of it."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.go.config import Config, Data, Net, Play, Ppo, Records, Zero
from workloads.go.messages import GoAnswer, GoRequest

workload = Workload(
    name="go",
    config=Config,
    sources={"sgf": "workloads.go.data:Sgf", "synthetic": "workloads.go.synthetic:Synthetic"},
    decode="workloads.go.data:decode",
    trainers={
        "zero": "workloads.go.zero:ZeroTask",
        "ppo": "workloads.go.ppo:PpoTask",
        "records": "workloads.go.task:RecordsTask",
    },
    predictor="workloads.go.predict:GoPredictor",
    evaluator="workloads.go.evaluate:GoEvaluator",
    request=GoRequest,
    answer=GoAnswer,
    exporter="workloads.go.export:export",
    goal=Goal("win_rate", "max"),
    space={
        "optim.lr": Span(5e-4, 5e-3, log=True),
        "model.width": Choice((16, 32, 64)),
        "zero.visits": Choice((16, 24, 32)),
        "zero.reuse": Span(2, 8),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            trainer="records",
            data=Data(games=200, matches=8),
            model=Net(width=24, blocks=2),
            play=Play(visits=32, judged=8),
            optim=Optim(lr=5e-3, weight_decay=1e-3, warmup_steps=20),
            train=Train(epochs=10, batch=16, checkpoint_every=25, validate_every=5, publish="last"),
        ),
        "records": Config(
            trainer="records",
            data=Data(size=9, komi=7.0),
            model=Net(width=48, blocks=5),
            records=Records(positions=16),
            optim=Optim(lr=3e-3, weight_decay=0.05, warmup_steps=50),
            train=Train(epochs=24, batch=16, ema=0.99, validate_every=8, publish="last"),
        ),
        "7x7": Config(
            data=Data(size=7, komi=8.5),
            model=Net(width=32, blocks=4),
            zero=Zero(sizes=(5, 7), shares=(0.1, 0.9), minutes=58),
        ),
        "9x9": Config(
            data=Data(size=9, komi=7.0),
            model=Net(width=48, blocks=5),
            zero=Zero(sizes=(5, 7, 9), shares=(0.05, 0.15, 0.8), minutes=359, capacity=500_000),
        ),
        "ppo": Config(trainer="ppo", ppo=Ppo()),
        "gpu": Config(
            data=Data(size=9, komi=7.0),
            model=Net(width=128, blocks=10),
            zero=Zero(sizes=(9,), minutes=0, iterations=5000, boards=1024, visits=32, capacity=2_000_000),
            train=Train(batch=2048, ema=0.9, publish="last"),
        ),
    },
    summary="Go on boards up to 19 x 19: self-play with search, recorded games, an engine to play against",
    commands="workloads.go.commands:app",
)
