"""What a search may choose from, and what it suggests: suggestion i is a function of (seed, i) alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from penstock.config import from_dict, merge, parse_value
from penstock.data.order import key, permutation
from penstock.errors import ConfigError
from penstock.workload import Choice, Span

Space = Mapping[str, Span | Choice]
Settings = dict[str, Any]
"""Chosen values by dotted setting; plain JSON values."""

RANGE = re.compile(r"\s*(log|uniform|int|choice)\((.*)\)\s*", re.DOTALL)
CALL = re.compile(r"\s*[A-Za-z_]\w*\(")  # meant as a range; a string like that stands in quotes
LARGEST_GRID = 1_000_000
FORMS = "log(a,b), uniform(a,b), int(a,b) or choice(x,y,…)"


def split_words(words: Sequence[str]) -> tuple[dict[str, Span | Choice], list[str]]:
    """The words that name a range, and those that fix a setting for all trials. ConfigError names a word that
    is neither."""
    space: dict[str, Span | Choice] = {}
    fixed = []
    for word in words:
        name, _, text = word.partition("=")
        found = RANGE.fullmatch(text)
        if found is None:
            if CALL.match(text):
                raise ConfigError(f"{word!r} is no range; write {FORMS}")
            fixed.append(word)
        else:
            space[name.strip()] = _dimension(word, found[1], found[2])
    for word in fixed:
        name = word.partition("=")[0].strip()
        if name in space:
            searched = as_text(space[name])
            raise ConfigError(f"{word!r}: {name} is searched over {searched}, too; give one of them")
    return space, fixed


def _dimension(word: str, form: str, inside: str) -> Span | Choice:
    values = [parse_value(part) for part in _parts(inside)]
    if form == "choice":
        if len({json.dumps(value) for value in values}) < max(len(values), 1):
            raise ConfigError(f"{word!r}: different values are needed")
        return Choice(tuple(values))
    if len(values) != 2 or any(
        isinstance(value, bool) or not isinstance(value, int | float) for value in values
    ):
        raise ConfigError(f"{word!r}: two numbers are needed; write {FORMS}")
    low, high = values
    whole = isinstance(low, int) and isinstance(high, int)
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (form == "int" and not whole):
        numbers = "whole numbers" if form == "int" else "finite numbers"
        raise ConfigError(f"{word!r}: {numbers}, the lower one first")
    if form == "log" and low <= 0:
        raise ConfigError(f"{word!r}: a logarithm needs numbers above 0")
    return Span(low, high, log=form == "log", integer=form == "int")


def _parts(text: str) -> list[str]:
    """`text` at its commas, but not at those in brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def as_text(dimension: Span | Choice) -> str:
    """As a person writes it."""
    if isinstance(dimension, Choice):
        return f"choice({','.join(json.dumps(option) for option in dimension.options)})"
    form = "log" if dimension.log else "int" if dimension.integer else "uniform"
    both = "log, whole" if dimension.log and dimension.integer else form
    return f"{both}({dimension.low:g},{dimension.high:g})"


def config_of(kind: type[Any], base: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The config of a trial: `base` (plain values) with its settings; ConfigError names what does not fit."""
    values = json.loads(json.dumps(base))
    for name, value in settings.items():
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        merge(kind, values, nested)
    return from_dict(kind, values)


def check(space: Space, kind: type[Any], base: Mapping[str, Any]) -> None:
    """ConfigError when a setting does not exist or an end of its range is refused."""
    if not space:
        raise ConfigError(f"nothing to search: name a range, such as 'optim.lr=log(1e-4,1e-1)'; {FORMS}")
    for name, dimension in space.items():
        _check(name, dimension, kind, base)


def fitting(space: Space, kind: type[Any], base: Mapping[str, Any]) -> dict[str, Span | Choice]:
    """Those of a space whose ends are not refused beside the other settings: a workload's own space is for
    all of its presets."""
    found = {}
    for name, dimension in space.items():
        with suppress(ConfigError):
            _check(name, dimension, kind, base)
            found[name] = dimension
    return found


def _check(name: str, dimension: Span | Choice, kind: type[Any], base: Mapping[str, Any]) -> None:
    if isinstance(dimension, Choice):
        ends = dimension.options
    else:
        ends = tuple(_typed(dimension, end) for end in (dimension.low, dimension.high))
    for value in ends:
        try:
            config_of(kind, base, {name: value})
        except ConfigError as error:
            raise ConfigError(f"{f'{name}={as_text(dimension)}'!r}: {error}") from None


# ---------------------------------------------------------------- suggestions


def sample(space: Space, seed: int, number: int) -> Settings:
    """Random suggestion `number`: each setting drawn by (seed, number, its name), so that one setting more
    changes no other."""
    return {name: _draw(space[name], _uniform("suggestion", seed, number, name)) for name in sorted(space)}


def _uniform(*parts: str | int) -> float:
    return float(np.random.Generator(np.random.Philox(key=key(*parts))).random())


def _draw(dimension: Span | Choice, at: float) -> Any:
    """The value at a share `at` (0 to 1) of the range."""
    if isinstance(dimension, Choice):
        return dimension.options[int(at * len(dimension.options))]
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        return _typed(dimension, math.exp(math.log(low) + at * (math.log(high) - math.log(low))))
    if dimension.integer:
        return int(low) + int(at * (high - low + 1))
    return _typed(dimension, low + at * (high - low))


def _typed(dimension: Span, value: float) -> float | int:
    """In range; whole where it must be, else with the six digits that a person still reads."""
    within = min(max(value, dimension.low), dimension.high)
    if dimension.integer:
        return round(within)
    return min(max(float(f"{within:.6g}"), float(dimension.low)), float(dimension.high))


def grid(space: Space, seed: int) -> tuple[int, Callable[[int], Settings]]:
    """How many configs the grid has, and which one is suggestion i. The order is drawn from the seed: in the
    product's own order neighbours are alike, and successive halving would compare only those at first."""
    axes = {name: _points(name, space[name]) for name in sorted(space)}
    size = math.prod(len(points) for points in axes.values())
    if size > LARGEST_GRID:
        raise ConfigError(f"the grid has {size:,} configs; --searcher random takes a sample")
    order = permutation(seed, 0, size)

    def at(number: int) -> Settings:
        rest = int(order[number])
        settings = {}
        for name, points in axes.items():
            rest, place = divmod(rest, len(points))
            settings[name] = points[place]
        return settings

    return size, at


def _points(name: str, dimension: Span | Choice) -> Sequence[Any]:
    if isinstance(dimension, Choice):
        return dimension.options
    if dimension.integer:
        return range(int(dimension.low), int(dimension.high) + 1)
    raise ConfigError(
        f"{name} = {as_text(dimension)}: a grid needs points: {name}=choice(x,y,…), or --searcher random"
    )


def explored(dimension: Span | Choice, value: Any, draw: Callable[[str], float]) -> Any:
    """A neighbour of `value` for a training under way: times 0.8 or 1.2 and once in four drawn anew
    (Jaderberg et al. 2017, appendix A); the next of several numbers. What may change the network's shape
    (whole numbers, words) stays. `draw(purpose)`: 0 to 1."""
    if isinstance(dimension, Choice):
        if not all(isinstance(option, float) for option in dimension.options):
            return value
        known = sorted(dimension.options)
        place = known.index(value) + (1 if draw("way") < 0.5 else -1)
        return known[min(max(place, 0), len(known) - 1)]
    if dimension.integer:
        return value
    if draw("anew") < 0.25:
        return _draw(dimension, draw("value"))
    return _typed(dimension, value * (1.2 if draw("way") < 0.5 else 0.8))
