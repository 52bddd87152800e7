"""Speech: which word is spoken in a recording, and when."""

from penstock.config import Optim, Train
from penstock.workload import Choice, Goal, Span, Workload
from workloads.speech.config import Config, Data, Net
from workloads.speech.messages import SpeechAnswer, SpeechRequest

workload = Workload(
    name="speech",
    config=Config,
    sources={"wav": "workloads.speech.data:WavFolder", "synthetic": "workloads.speech.synthetic:Synthetic"},
    decode="workloads.speech.data:decode",
    trainers={"supervised": "workloads.speech.task:SpeechTask"},
    predictor="workloads.speech.predict:SpeechPredictor",
    evaluator="workloads.speech.evaluate:SpeechEvaluator",
    request=SpeechRequest,
    answer=SpeechAnswer,
    exporter="workloads.speech.export:export",
    goal=Goal("accuracy", "max"),
    space={
        "optim.lr": Span(3e-4, 1e-2, log=True),
        "optim.weight_decay": Span(1e-4, 1e-1, log=True),
        "model.dropout": Span(0.0, 0.5),
        "model.features": Choice(("mfcc", "logmel")),
        "augment.voice": Span(0.0, 0.15),
    },
    presets={
        "default": Config(),
        "smoke": Config(
            data=Data(clips=480),
            optim=Optim(lr=8e-3, warmup_steps=10),
            train=Train(epochs=12, batch=32, checkpoint_every=20),
        ),
        "gpu": Config(
            data=Data(rate=16_000),
            model=Net(kind="crnn", mels=64, width=64),
            train=Train(epochs=60, batch=256, ema=0.99, precision="bf16", publish="last"),
        ),
    },
    summary="spoken words: label, time line and text of a recording",
)
