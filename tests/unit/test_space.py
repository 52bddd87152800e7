"""What a search may choose from, and that suggestion i is a function of (seed, i)."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from penstock import catalog
from penstock.config import to_dict
from penstock.errors import ConfigError
from penstock.tuning.asked import wanted
from penstock.tuning.space import as_text, check, config_of, explored, fitting, grid, sample, split_words
from penstock.workload import Choice, Span
from tests import toy
from tests.toy import Config

SPACE = {
    "optim.lr": Span(1e-4, 1e-1, log=True),
    "optim.weight_decay": Span(0.0, 0.5),
    "model.width": Span(4, 12, integer=True),
    "optim.kind": Choice(("sgd", "adamw")),
}


def test_words_name_ranges_or_fix_settings() -> None:
    words = [
        "optim.lr=log(1e-4,1e-1)",
        "optim.weight_decay=uniform(0, 0.5)",
        "model.width=int(4,12)",
        "optim.kind=choice(sgd, adamw)",
        "train.epochs=3",
        "optim.betas=choice([0.9,0.99],[0.8,0.95])",
    ]
    space, fixed = split_words(words)
    assert fixed == ["train.epochs=3"]
    assert space == {**SPACE, "optim.betas": Choice(([0.9, 0.99], [0.8, 0.95]))}
    assert split_words([f"{name}={as_text(space[name])}" for name in space])[0] == space


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optim.lr=log(0,1)", "a logarithm needs numbers above 0"),
        ("optim.lr=log(1)", "two numbers are needed"),
        ("optim.lr=uniform(a,b)", "two numbers are needed"),
        ("optim.lr=uniform(2,1)", "the lower one first"),
        ("model.width=int(1.5,3)", "whole numbers, the lower one first"),
        ("optim.kind=choice()", "different values are needed"),
        ("optim.lr=log(1e-3,1e-2", r"is no range; write log\(a,b\)"),
        ("optim.lr=loog(1,2)", "is no range"),
        ("optim.lr=log(1e-4,inf)", "finite numbers, the lower one first"),
        ("optim.kind=choice(sgd,sgd)", "different values are needed"),
    ],
)
def test_a_range_that_is_none_is_named(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        split_words([word])
    assert repr(word) in str(raised.value)


def test_a_setting_is_searched_or_given_and_never_both() -> None:
    for words in (["optim.lr=0.1", "optim.lr=log(1e-4,1)"], ["optim.lr=log(1e-4,1)", "optim.lr=0.1"]):
        with pytest.raises(ConfigError, match=r"^'optim.lr=0.1': optim.lr is searched over log\("):
            split_words(words)


def test_settings_that_do_not_exist_or_do_not_fit_are_named() -> None:
    base = to_dict(Config())
    check(SPACE, Config, base)
    for word, says in {
        "optim.lrr=log(1e-4,1)": "optim.lrr; did you mean optim.lr?",
        "optim.kind=choice(sgd,lion)": "optim.kind = 'lion'",
        "optim.lr=uniform(-1,1)": "optim.lr = -1",
        "model.width=choice(4,wide)": "model.width = 'wide'",
    }.items():
        with pytest.raises(ConfigError, match=says.replace("?", r"\?")) as raised:
            check(split_words([word])[0], Config, base)
        assert str(raised.value).startswith(f"'{word.partition('=')[0]}="), "the range is not named"
    with pytest.raises(ConfigError, match="nothing to search"):
        check({}, Config, base)


def test_of_a_workload_s_own_space_what_its_preset_refuses_is_left_out(tmp_path: Path) -> None:
    assert fitting(SPACE, Config, to_dict(Config())) == SPACE
    gan = catalog.find("gan")
    default, dcgan = (wanted(gan, "asha", "random", preset, None, ())[0] for preset in (None, "dcgan"))
    assert set(default) - set(dcgan) == {"model.r1"}
    file = tmp_path / "held.toml"
    file.write_text("[optim]\nlr = 0.5\n")
    ranges, config = wanted(toy.workload, "asha", "random", None, file, ())
    assert list(ranges) == ["model.width"] and config.optim.lr == 0.5
    with pytest.raises(ConfigError, match="nothing to search"):
        wanted(toy.workload, "asha", "random", None, file, ["model.width=4"])


def test_a_suggestion_depends_on_seed_and_number_alone() -> None:
    numbers = list(range(50))
    first = {number: sample(SPACE, 7, number) for number in numbers}
    random.Random(1).shuffle(numbers)
    assert {number: sample(SPACE, 7, number) for number in numbers} == first
    assert len({json.dumps(first[number]) for number in numbers}) == 50
    assert sample(SPACE, 8, 0) != first[0]
    # one setting more changes no other
    assert sample({"optim.lr": SPACE["optim.lr"]}, 7, 3)["optim.lr"] == first[3]["optim.lr"]


def test_suggestions_cover_their_ranges_and_build_configs() -> None:
    drawn = [sample(SPACE, 0, number) for number in range(400)]
    rates = sorted(one["optim.lr"] for one in drawn)
    assert 1e-4 <= rates[0] < 2e-4 and 5e-2 < rates[-1] <= 1e-1
    assert 2e-3 < rates[200] < 5e-3  # the middle of a logarithmic range
    assert {one["model.width"] for one in drawn} == set(range(4, 13))
    assert {one["optim.kind"] for one in drawn} == {"sgd", "adamw"}
    made = config_of(Config, to_dict(Config()), drawn[0])
    assert (made.optim.lr, made.model.width) == (drawn[0]["optim.lr"], drawn[0]["model.width"])


def test_a_grid_is_the_whole_product_in_an_order_drawn_from_the_seed() -> None:
    space: dict[str, Any] = {
        "model.width": Span(4, 6, integer=True),
        "optim.kind": Choice(("sgd", "adamw")),
        "optim.lr": Choice((0.1, 0.2)),
    }
    size, at = grid(space, 3)
    seen = [tuple(sorted(at(number).items())) for number in range(size)]
    product = [
        (("model.width", width), ("optim.kind", kind), ("optim.lr", rate))
        for width, kind, rate in itertools.product((4, 5, 6), ("sgd", "adamw"), (0.1, 0.2))
    ]
    assert size == 12 and sorted(seen) == sorted(product) and seen != product
    assert [tuple(sorted(grid(space, 3)[1](number).items())) for number in range(size)] == seen
    with pytest.raises(ConfigError, match=r"optim.lr = log\(0.0001,0.1\): a grid needs points"):
        grid(SPACE, 0)


def test_what_is_explored_stays_in_range_and_leaves_the_shape_alone() -> None:
    def draw(anew: float, way: float) -> Any:
        return lambda purpose: {"anew": anew, "way": way, "value": 0.5}[purpose]

    assert explored(SPACE["optim.lr"], 0.01, draw(0.9, 0.1)) == pytest.approx(0.012)
    assert explored(SPACE["optim.lr"], 0.01, draw(0.9, 0.9)) == pytest.approx(0.008)
    assert explored(SPACE["optim.lr"], 0.09, draw(0.9, 0.1)) == 0.1
    assert explored(SPACE["optim.lr"], 0.01, draw(0.1, 0.1)) == pytest.approx(10**-2.5, rel=1e-4)
    assert explored(SPACE["model.width"], 8, draw(0.9, 0.1)) == 8
    assert explored(SPACE["optim.kind"], "sgd", draw(0.9, 0.1)) == "sgd"
    assert explored(Choice((0.1, 0.3, 0.2)), 0.1, draw(0.9, 0.1)) == 0.2
    assert explored(Choice((0.1, 0.3, 0.2)), 0.1, draw(0.9, 0.9)) == 0.1
