"""Every setting of the chatbot workload, with the values of the real run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError


@dataclass(frozen=True)
class Data:
    """Which texts are learned from, and in which pieces; a data set depends on nothing else."""

    vocabulary: int = 1024  # pieces of text that the tokenizer learns, 256 single bytes among them
    longest: int = 2000  # bytes of a message or a reply; a longer one is a bad item
    validation: float = 0.1  # share of the training replies that chooses the published weights
    dialogues: int = 6000  # how many the synthetic source makes

    def __post_init__(self) -> None:
        if not 257 <= self.vocabulary <= 65_536:
            raise ConfigError(f"data.vocabulary = {self.vocabulary}: 257 to 65536 are possible")
        if not 1 <= self.longest <= 8000:
            raise ConfigError(f"data.longest = {self.longest}: 1 to 8000 bytes are possible")


@dataclass(frozen=True)
class Net:
    """Which network answers, and how much it sees."""

    kind: Literal["transformer", "lstm"] = "transformer"
    width: int = 160  # numbers a token is known by
    layers: int = 4  # transformer: blocks; lstm: layers of encoder and of decoder
    heads: int = 4  # transformer
    context: int = 512  # tokens of conversation and reply together; older messages are forgotten
    packed: int = 256  # transformer: tokens of a row that several short conversations share
    dropout: float = 0.2
    intents: bool = True  # also recognise the intent, where the data has intents
    intent_weight: float = 1.0  # of an item's intent in the loss, in tokens

    def __post_init__(self) -> None:
        if self.width < 16 or self.width % 16 or self.width // 2 % self.heads:
            raise ConfigError(
                f"model.width = {self.width}, model.heads = {self.heads}: a multiple of 16 and of two heads "
                "is needed"
            )
        if not 1 <= self.layers <= 48 or self.heads < 1:
            raise ConfigError(f"model.layers = {self.layers}: 1 to 48 are possible")
        if not 16 <= self.context <= 8192 or self.packed < 1:
            raise ConfigError(f"model.context = {self.context}: 16 to 8192 tokens are possible")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout = {self.dropout}: 0 up to 1 (without 1) is possible")


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    optim: Optim = field(
        default_factory=lambda: Optim(lr=2e-3, weight_decay=0.1, betas=(0.9, 0.98), warmup_steps=100)
    )
    train: Train = field(
        default_factory=lambda: Train(epochs=15, batch=64, ema=0.99, checkpoint_every=50, validate_every=3)
    )
