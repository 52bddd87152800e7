"""GAN: new pictures in the manner of those it was shown."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.gan.config import Augment, Config, Data, Net
from workloads.gan.messages import GanAnswer, GanRequest

workload = Workload(
    name="gan",
    config=Config,
    sources={
        "idx": "workloads.gan.idx:Idx",
        "images": "workloads.gan.images:Images",
        "synthetic": "workloads.gan.synthetic:Synthetic",
    },
    decode="workloads.gan.data:decode",
    fit="workloads.gan.judge:fit",
    trainers={"supervised": "workloads.gan.task:GanTask"},
    predictor="workloads.gan.predict:GanPredictor",
    evaluator="workloads.gan.evaluate:GanEvaluator",
    request=GanRequest,
    answer=GanAnswer,
    exporter="workloads.gan.export:export",
    goal=Goal("frechet_distance", "min"),
    space={
        "optim.lr": Span(2e-4, 3e-3, log=True),
        "model.loss": Choice(("nonsaturating", "hinge")),
        "model.spectral_norm": Choice((False, True)),
        "model.r1": Span(0.05, 5.0, log=True),
        "augment.cutout": Span(0.0, 0.5),
        "augment.translation": Span(0.0, 0.25),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            data=Data(pictures=1600),
            model=Net(width=16, widest=64, noise=32),
            optim=Optim(kind="adam", lr=2e-3, weight_decay=0.0, betas=(0.0, 0.99), warmup_steps=20, clip=0.0),
            train=Train(epochs=8, batch=24, ema=0.99, checkpoint_every=50, validate_every=4, publish="last"),
        ),
        "dcgan": Config(
            model=Net(kind="dcgan", conditional=False, r1=0.0),
            augment=Augment(translation=0.0, cutout=0.0),
            optim=Optim(
                kind="adam",
                lr=1e-4,
                weight_decay=0.0,
                betas=(0.9, 0.999),
                schedule="constant",
                clip=0.0,
            ),
            train=Train(epochs=50, batch=64, checkpoint_every=200, publish="last"),
        ),
        "gpu": Config(
            model=Net(width=64, widest=512, noise=128),
            train=Train(epochs=200, batch=128, ema=0.999, precision="bf16", checkpoint_every=500),
        ),
    },
    summary="new pictures by seed and class, in the manner of the training pictures",
)
