"""Detection: what is on the road, and where."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.detection.config import Augment, Config, Data, Net
from workloads.detection.messages import DetectionAnswer, DetectionRequest

workload = Workload(
    name="detection",
    config=Config,
    sources={
        "voc": "workloads.detection.voc:Voc",
        "coco": "workloads.detection.coco:Coco",
        "kitti": "workloads.detection.kitti:Kitti",
        "synthetic": "workloads.detection.synthetic:Synthetic",
    },
    decode="workloads.detection.data:decode",
    trainers={"supervised": "workloads.detection.task:DetectionTask"},
    predictor="workloads.detection.predict:DetectionPredictor",
    evaluator="workloads.detection.evaluate:DetectionEvaluator",
    request=DetectionRequest,
    answer=DetectionAnswer,
    exporter="workloads.detection.export:export",
    goal=Goal("map50", "max"),
    space={
        "optim.lr": Span(3e-4, 1e-2, log=True),
        "optim.weight_decay": Span(1e-3, 2e-1, log=True),
        "model.width": Choice((16, 24, 32, 48)),
        "augment.mosaic": Span(0.0, 1.0),
        "augment.grow": Span(0.0, 1.0),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            data=Data(width=320, height=192, pictures=120),
            model=Net(width=16),
            augment=Augment(width=160, height=128),
            optim=Optim(lr=3e-3, warmup_steps=10, clip=0.5),
            train=Train(epochs=12, batch=8, ema=0.9, checkpoint_every=40, validate_every=6, publish="last"),
        ),
        # torchvision's beside ours, for the same budget of a CPU
        "fasterrcnn": Config(
            model=Net(kind="fasterrcnn_mobilenet_v3_large_fpn"),
            augment=Augment(width=0, height=0, shrink=0.2, grow=0.5, mosaic=0.25),
            optim=Optim(lr=5e-4, weight_decay=0.05, warmup_steps=50),
            train=Train(epochs=24, batch=4, ema=0.99, checkpoint_every=100, validate_every=8, publish="last"),
        ),
        # many small pictures of the drawn world
        "synthetic": Config(
            data=Data(width=320, height=192, pictures=1000),
            augment=Augment(width=192, height=160),
            optim=Optim(lr=3e-3, weight_decay=0.05, warmup_steps=100, clip=0.5),
            train=Train(
                epochs=50, batch=16, ema=0.995, checkpoint_every=100, validate_every=5, publish="last"
            ),
        ),
        "gpu": Config(
            model=Net(kind="fasterrcnn_resnet50_fpn_v2", weights="DEFAULT", rois=512, proposals=1000),
            augment=Augment(width=0, height=0, shrink=0.3, grow=0.7),
            optim=Optim(lr=1e-4, weight_decay=0.05, warmup_steps=200),
            train=Train(epochs=40, batch=16, ema=0.998, precision="bf16", publish="last", validate_every=5),
        ),
    },
    summary="objects on the road: boxes, labels, scores, and the picture with them drawn",
)
