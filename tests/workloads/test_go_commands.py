"""Go at the command line: the engine, matches of published models, openings with fair komi, the benchmark."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from penstock import registry
from penstock.store import Store
from penstock.workload import Schema
from tests.command import Finished, command, penstock
from tests.versions import data_card
from tests.versions import publish as publish_toy
from workloads.go import workload
from workloads.go.board import Rules, boards
from workloads.go.commands import app
from workloads.go.config import Config, Net, Play
from workloads.go.match import gnugo, match
from workloads.go.model import GoNet
from workloads.go.notation import vertex
from workloads.go.openings import drawn, openings
from workloads.go.players import RandomPlayer
from workloads.go.predict import GoPredictor
from workloads.go.record import read
from workloads.go.strength import Recipe, Starts, fair_komi, find

Cli = Callable[..., Finished]
ENGINE = command("go", "play", "--gtp", "--board", "numpy", "--size", "5")
DIES = """
import sys
for line in sys.stdin:
    if "genmove" in line:
        sys.exit("out of ideas")
    print("=", end="\\n\\n", flush=True)
"""
TWO = [
    {"moves": ["C3", "C2", "D2", "B3"], "komi": 3.0, "spread": 4.0},
    {"moves": ["A1", "E5"], "komi": -2, "spread": 0},
]


def tiny(store: Store, seed: int = 0, visits: int = 4) -> registry.Version:
    """The next version of model go: untrained, with weights of its own seed."""
    torch.manual_seed(seed)
    config = Config(model=Net(width=8, blocks=1), play=Play(visits=visits))
    module = GoNet(8, 1)
    return registry.publish(
        *(store, "go", workload, config, Schema((), {}, {}), module.state_dict()),
        metrics={"win_rate": {"value": 0.5, "low": 0.4, "high": 0.6}},
        records=pa.table({"item": ["a"], "unit": ["a"], "outcome": [0.5]}),
        dataset_card=data_card(),
        run=f"go-{seed}",
        seed=seed,
        trainer="records",
    )


def written(folder: Path, **changed: Any) -> Path:
    """A file of two openings at 5 x 5."""
    file = folder / "openings.json"
    file.write_text(json.dumps({"format": 1, "size": 5, "openings": TWO} | changed))
    return file


def needs_gnugo() -> None:
    try:
        gnugo(0)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def gtp(*words: object, stdin: str | bytes) -> str:
    done = CliRunner().invoke(app, ["play", "--gtp", *map(str, words)], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


# ---------------------------------------------------------------- the engine


def test_without_a_model_the_engine_needs_no_store(tmp_path: Path) -> None:
    said = gtp(
        *("--rows", 3, "--komi", 0, "--board", "numpy", "--store", tmp_path / "none"),
        stdin=b"1 play b B2\nfinal_score\n\xff\xfe\ngenmove w\n",
    )
    assert said.startswith("=1\n\n= B+9\n\n? unknown command\n\n= ") and "B2" not in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("visits", [None, 0, 9])
def test_the_engine_plays_the_moves_of_a_published_model(store: Store, visits: int | None) -> None:
    versions = [tiny(store, seed) for seed in (0, 1)]
    found = []
    for version in versions:
        words = ["--model", version.reference, "--store", store.root, "--size", 5, "--komi", 0.5]
        said = gtp(*words, *(() if visits is None else ("--visits", visits)), stdin="play b C3\ngenmove w\n")
        found.append(said.split()[-1])
        player = GoPredictor(registry.load(store, version), "cpu").player(4 if visits is None else visits)
        board = boards(Rules(5, 5, 0.5, most_plies=100), 1)
        board.step([12])
        wanted = player.choose(board, 0, np.random.default_rng(0))
        assert wanted is not None and found[-1] == vertex(wanted, 5, 5)
    # two networks: not both play alike, or the weights were not those of the store
    assert visits is not None or found[0] != found[1]


def test_the_engine_stops_thinking_when_its_seconds_are_over(store: Store) -> None:
    tiny(store)
    words = ("--model", "go", "--store", store.root, "--size", 5, "--visits", 10_000, "--seconds", 0.2)
    assert gtp(*words, stdin="genmove b\n").startswith("= ")


# ---------------------------------------------------------------- matches


def test_a_match_of_a_published_model_against_random(store: Store, cli: Cli, tmp_path: Path) -> None:
    tiny(store)
    words = ["go", "match", "--model", "go@1", "--opponent", "random", "--sims", 2, "--size", 3, "--games", 6]
    words += ["--komi", 2, "--seed", 5]
    answer = cli(*words, "--records", tmp_path / "games", "--json").json
    assert answer["games"] == answer["wins"] + answer["draws"] + answer["losses"] == 6
    assert 0 <= answer["low"] <= answer["score"] <= answer["high"] <= 1 and answer["sims"] == 2
    names = [read(file.read_bytes()).names for file in sorted((tmp_path / "games").iterdir())]
    assert names == [("go@1", "random"), ("random", "go@1")] * 3
    # the same games as by the Python API, from the same weights
    rules = Rules(3, 3, 2)
    player = GoPredictor(registry.load(store, "go@1"), "cpu").player(2)
    result = match(player, RandomPlayer(), 6, rules, openings(rules, 3, 5), (), 5)
    assert answer["results"] == [game.result for game in result.games]
    said = cli(*words).out.splitlines()
    assert said[0].startswith("1/6  go@1 (black), random (white): ") and said[-1].startswith("go@1: ")


def test_versions_play_each_other_and_greedy(store: Store, cli: Cli) -> None:
    tiny(store), tiny(store, 1)
    words = ("--size", 3, "--games", 2, "--json")
    other = cli("go", "match", "--model", "go@2", "--opponent", "go@1", *words).json
    assert other["games"] == 2 and other["sims"] == 4
    assert cli("go", "match", "--opponent", "greedy", *words).json["sims"] is None


def test_a_program_plays_a_match(cli: Cli) -> None:
    words = ("--opponent", shlex.join(ENGINE), "--size", 5, "--games", 2, "--board", "numpy")
    said = cli("go", "match", *words).out
    assert "1/2  random (black)" in said and "score" in said.splitlines()[-1]


@pytest.mark.parametrize("name", ["gnugo:0", "gnugo --mode gtp --chinese-rules --level 0"])
def test_gnu_go_is_an_opponent(cli: Cli, name: str) -> None:
    needs_gnugo()
    answer = cli("go", "match", "--opponent", name, "--size", 5, "--komi", 0, "--games", 2, "--json").json
    assert answer["games"] == answer["wins"] + answer["draws"] + answer["losses"] == 2


def test_each_opening_of_a_file_is_played_with_both_colours_and_its_komi(cli: Cli, tmp_path: Path) -> None:
    words = ("go", "match", "--opponent", "greedy", "--openings", written(tmp_path), "--board", "numpy")
    answer = cli(*words, "--records", tmp_path / "games", "--json").json
    assert (answer["games"], answer["size"]) == (4, 5)
    records = [read(file.read_bytes()) for file in sorted((tmp_path / "games").iterdir())]
    assert [record.komi for record in records] == [3, 3, -2, -2]
    assert [record.names[0] for record in records] == ["random", "greedy"] * 2
    for record, start in zip(records, (TWO[0], TWO[0], TWO[1], TWO[1]), strict=True):
        moves = start["moves"]
        assert isinstance(moves, list)
        assert [vertex(action, 5, 5) for _, action in record.moves[: len(moves)]] == moves
    assert cli(*words, "--games", 2, "--json").json["games"] == 2


# ---------------------------------------------------------------- openings


def test_openings_go_on_where_they_were_stopped(tmp_path: Path, cli: Cli) -> None:
    needs_gnugo()
    recipe, size = Recipe(seed=3, level=0, plays=3), 4

    def stop(starts: Starts, what: str) -> None:
        if len(starts.openings) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "a.json", size, 4, recipe, each=stop)
    assert len(Starts.model_validate_json((tmp_path / "a.json").read_bytes()).openings) == 2
    told: list[str] = []
    found = find(tmp_path / "a.json", size, 4, recipe, 2, lambda starts, what: told.append(what))
    assert len(told) == found.drawn - 2 and len(found.openings) == 4
    assert find(tmp_path / "b.json", size, 4, recipe) == found
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    # what is enough is left as it is
    assert find(tmp_path / "a.json", size, 3, recipe) == found


def test_an_opening_with_too_wide_a_spread_is_not_kept(tmp_path: Path) -> None:
    needs_gnugo()
    told: list[str] = []
    # after the second of these openings GNU Go's games end 22 points apart
    recipe = Recipe(seed=1, level=1, plays=3)
    found = find(tmp_path / "openings.json", 5, 2, recipe, each=lambda starts, what: told.append(what))
    assert ["not kept" in what for what in told] == [False, True, False] and found.drawn == 3
    first, _, third = islice(drawn(Rules(5, 5), 1), 3)
    assert found.actions() == [first, third]
    for start, opening in zip(found.openings, (first, third), strict=True):
        assert (start.komi, start.spread) == fair_komi(opening, Rules(5, 5, 0.0), 3, 1, 1)
        assert start.komi == round(start.komi)


def test_the_command_writes_openings_that_a_match_reads(tmp_path: Path, cli: Cli) -> None:
    needs_gnugo()
    file = tmp_path / "openings.json"
    words = ("go", "openings", "--size", 4, "--count", 1, "--level", 0, "--output", file)
    said = cli(*words).out.splitlines()
    assert any("komi" in line for line in said[:-1]) and said[-1].startswith(f"{file}: 1 openings, of ")
    assert cli(*words, "--json").json["openings"] == 1
    assert cli("go", "match", "--opponent", "random", "--openings", file, "--json").json["games"] == 2
    assert "another size, level or seed" in cli(*words, "--seed", 1).error


# ---------------------------------------------------------------- what is wrong, in one line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("play", "speaks GTP only: say --gtp"),
        ("play --gtp --size 20", "rows = 20"),
        ("play --gtp --komi nan", "komi = nan"),
        ("play --gtp --seed -1", "seed = -1"),
        ("play --gtp --visits 3", "--visits and --seconds are a model's: say --model NAME"),
        ("play --gtp --model go@1 --visits -1", "-1 simulations a move: 0 to 10000"),
        ("play --gtp --model go@1 --seconds nan", "seconds = nan"),
        ("play --gtp --model og", "no model 'og'; known: go, toy"),
        ("play --gtp --model go@7", "no version 7 of model go; versions: 1"),
        ("play --gtp --model toy", "model toy@1 is of workload toy, not of go"),
        ("match", "missing option '--opponent'"),
        ("match --opponent random --games 3", "games = 3: an even number"),
        ("match --opponent random --games 0", "games = 0: an even number"),
        ("match --opponent random --timeout nan", "timeout = nan"),
        ("match --opponent random --sims 5", "sims = 5: random moves need none; say --model NAME"),
        ("match --opponent random --komi nan", "komi = nan"),
        ("match --opponent no-such-program", "no-such-program cannot be started"),
        ('match --opponent "\'"', "No closing quotation"),
        ("match --opponent gnugo:x", "gnugo:x: a level is needed"),
        ("match --opponent go@7", "no version 7 of model go"),
        ("match --opponent nobody@1", "no model 'nobody'"),
        ("match --opponent random --model nobody", "no model 'nobody'"),
        ("match --opponent random --model go", "board = numpy: a search plays on numba's boards only"),
        (
            "match --opponent random --openings none.json",
            "none.json: there is no such file; penstock go openings",
        ),
        ("openings --output x/openings.json --level 11", "level = 11"),
    ],
)
def test_a_wrong_word_is_one_line(words: str, says: str, cli: Cli, store: Store) -> None:
    if "gnugo" in words or "openings --output" in words:
        needs_gnugo()
    tiny(store), publish_toy(store)
    assert says in cli("go", *shlex.split(words), *(("--board", "numpy") if "match -" in words else ())).error


@pytest.mark.parametrize(
    ("changed", "words", "says"),
    [
        ({}, "--size 9", "size = 9: the openings of"),
        ({}, "--komi 7", "komi = 7: the openings of"),
        ({}, "--games 3", "games = 3: an even number"),
        ({}, "--games 6", "are enough for 4"),
        ({"format": 2}, "", "format: Input should be 1"),
        ({"size": 20}, "", "size: Input should be less than or equal to 19"),
        ({"size": 2}, "", "openings.0.moves: vertex 'C3'"),
        ({"openings": []}, "", "it holds none"),
        ({"openings": [TWO[0] | {"komi": float("nan")}]}, "", "openings.0.komi: Input should be"),
        ({"openings": [TWO[0] | {"spread": -1}]}, "", "openings.0.spread: Input should be"),
        ({"openings": [TWO[0] | {"moves": ["C3", "C3"]}]}, "", "openings.0.moves: C3 is occupied"),
        ({"openings": [TWO[0] | {"moves": ["pass", "pass"]}]}, "", "openings.0.moves: the game is over"),
        ({"more": 1}, "", "more: Extra inputs are not permitted"),
    ],
)
def test_a_file_of_openings_that_does_not_fit(
    changed: dict[str, Any], words: str, says: str, cli: Cli, tmp_path: Path
) -> None:
    file = written(tmp_path, **changed)
    said = cli("go", "match", "--opponent", "random", "--openings", file, *words.split()).error
    assert says in said and (str(file) in said or "games = 3" in said)


def test_a_damaged_file_of_openings_is_named(cli: Cli, tmp_path: Path) -> None:
    file = written(tmp_path)
    for content in (file.read_bytes()[:-20], b"\xff\x00", b"", b"[1]"):
        file.write_bytes(content)
        said = cli("go", "match", "--opponent", "random", "--openings", file).error
        assert said.startswith(f"penstock: openings {file}: ")
    assert f"openings {tmp_path}" in cli("go", "match", "--opponent", "random", "--openings", tmp_path).error


def test_a_program_that_fails_in_a_match_fails_the_run(cli: Cli) -> None:
    dies = shlex.join([sys.executable, "-c", DIES])
    done = cli("go", "match", "--opponent", dies, "--size", 5, "--games", 2, "--board", "numpy")
    assert done.code == 1 and "out of ideas" in done.err and len(done.err.strip().splitlines()) == 1


def test_as_a_process_it_ends_with_one_line_and_the_exit_code() -> None:
    assert penstock("go", "play").error == "penstock: go play speaks GTP only: say --gtp"


# ---------------------------------------------------------------- the benchmark


def test_the_benchmark_is_a_verb_of_the_workload(cli: Cli) -> None:
    words = ("--pairs", 1, "--seconds", 0.01, "--games", 16, "--no-peers", "--json")
    answer = cli("bench", "go", *words).json
    ratio = answer["ratios"]["search"]
    assert 0 < ratio["value"] == pytest.approx(ratio["median_a"] / ratio["median_b"])
    assert len(answer["moves_per_cpu_second"]) == 8 and min(answer["moves_per_cpu_second"].values()) > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("god",), "no benchmark 'god'; did you mean go?"),
        (("toy",), "toy brings no benchmark of its own; say penstock bench data toy"),
        (("--json", "go"), "bench go takes its options last"),
        (("go", "--pairs", "0"), "invalid value for '--pairs'"),
    ],
)
def test_what_is_no_benchmark_is_one_line(words: tuple[str, ...], says: str, cli: Cli) -> None:
    assert says in cli("bench", *words).error
