"""Config: defaults, preset, file and words; errors that name the setting and the way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from penstock.config import Optim, Train, build, dotted, from_dict, to_dict
from penstock.errors import ConfigError


@dataclass(frozen=True)
class Net:
    kind: Literal["cnn", "rnn"] = "cnn"
    sizes: tuple[int, ...] = (8, 16)
    dropout: float = 0.5


@dataclass(frozen=True)
class Config:
    model: Net = field(default_factory=Net)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)


def error(*words: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        build(Config, None, file, words)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_words_it_is_the_defaults() -> None:
    assert build(Config) == Config()


def test_a_file_goes_over_a_preset_and_words_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[optim]\nlr = 3e-4\nkind = "sgd"\n[train]\nepochs = 3\n')
    preset = Config(optim=Optim(lr=0.5, clip=7.0), train=Train(batch=64))
    made = build(Config, preset, file, ["train.epochs=4"])
    assert (made.optim.lr, made.optim.kind, made.optim.clip) == (3e-4, "sgd", 7.0)
    assert (made.train.epochs, made.train.batch) == (4, 64)


def test_words_are_read_as_toml_and_a_bare_word_is_a_string() -> None:
    words = ["optim.lr=3e-4", "model.kind=rnn", "model.sizes=[1, 2, 3]", "train.compile=true", "optim.clip=1"]
    made = build(Config, None, None, words)
    assert made.optim.lr == 3e-4
    assert made.model == Net("rnn", (1, 2, 3))
    assert made.train.compile is True
    assert made.optim.clip == 1.0 and isinstance(made.optim.clip, float)


def test_an_unknown_setting_suggests_the_nearest() -> None:
    assert error("optim.lrr=1") == "no setting optim.lrr; did you mean optim.lr?"
    assert "did you mean train?" in error("trian.epochs=1")
    assert "known: model, optim, train" in error("qqqqqqqqqqqqqqqqqqqqqqqqqq=1")


def test_an_unknown_setting_in_a_file_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[train]\nepoch = 3\n")
    assert error(file=file) == "no setting train.epoch; did you mean train.epochs?"


@pytest.mark.parametrize(
    "word",
    [
        "train.epochs=many",
        "train.epochs=1.5",
        "train.compile=1",
        "optim.lr=fast",
        "optim.lr=nan",
        "model.kind=gru",
    ],
)
def test_a_value_of_the_wrong_type_names_setting_and_value(word: str) -> None:
    key, _, value = word.partition("=")
    message = error(word)
    assert message.startswith(f"{key} = ") and value in message


def test_a_section_is_no_value() -> None:
    assert error("optim=3").startswith("optim = 3: a section, not a value; its settings: optim.kind")


def test_a_word_without_equals_sign_says_how_to_write_one() -> None:
    assert error("optim.lr") == "'optim.lr' is not a setting; write key.sub=value"


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    assert error(file=tmp_path / "none.toml") == f"no config file {str(tmp_path / 'none.toml')!r}"
    (tmp_path / "bad.toml").write_text("[optim\n")
    assert "bad.toml" in error(file=tmp_path / "bad.toml")


def test_a_config_survives_json() -> None:
    config = Config(model=Net("rnn", (3,)), optim=Optim(betas=(0.8, 0.9)))
    assert from_dict(Config, to_dict(config)) == config


def test_settings_are_listed_dotted() -> None:
    assert dotted(Config)[:4] == ["model.kind", "model.sizes", "model.dropout", "optim.kind"]
