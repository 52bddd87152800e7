"""The command line: quick, and errors in one line that name the way out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import catalog
from penstock.cli import app
from penstock.cli.making import how_many
from penstock.cli.shell import Terminated, interval, plain, stoppable
from penstock.errors import PenstockError
from tests.command import Finished, environment

VERBS = sorted(command.name or "" for command in app.registered_commands)


def heavy_after(code: str) -> set[str]:
    """Which heavy packages a new interpreter has imported after running `code`."""
    watch = (
        "import sys; print(sorted({'torch', 'ray', 'matplotlib', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{watch}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))


def test_help_and_config_errors_import_nothing_heavy() -> None:
    ends = "try:\n    main()\nexcept SystemExit: pass"
    quick = (["--help"], ["train", "--help"], ["train", "speech", "optim.lrr=1"], ["trian"])
    for words in (*quick, ["tune", "speech", "x=1"], ["submit", "--help"], ["submit", "--", "trian"]):
        # the toy workload itself imports torch: it stands for one that could be lighter
        words = ["speech" if word == "toy" else word for word in words]
        assert (
            heavy_after(f"import sys; sys.argv[1:] = {words!r}\nfrom penstock.cli import main\n{ends}")
            == set()
        )


def test_importing_penstock_costs_nothing_and_still_offers_every_name() -> None:
    assert heavy_after("import penstock; assert 'train' in dir(penstock)") == set()
    import penstock as package

    for name in package.__all__:
        assert callable(getattr(package, name)), name


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_ends_with_a_working_example(verb: str) -> None:
    shown = next(each for each in app.registered_commands if each.name == verb)
    assert shown.epilog is not None and shown.epilog.startswith(f"Example:  penstock {verb}")
    # the words of the example are ones that the verb takes
    import typer

    words = shown.epilog.split()[3:]
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, words, resilient_parsing=False)


def test_the_verbs_of_this_version_are_all_tcli() -> None:
    wanted = (
        "list new doctor prepare train evaluate predict compare models promote export keys serve runs report "
        "submit jobs"
    )
    assert sorted([*wanted.split(), "bench", "check", "demo", "tune"]) == VERBS


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "no verb 'trian'; did you mean train?"),
        (["train", "toyy"], "no workload 'toyy'; did you mean toy?"),
        (["train", "speech", "optim.lrr=1"], "no setting optim.lrr; did you mean optim.lr?"),
        (["train", "speech", "optim.lr=fast"], "optim.lr = 'fast': input should be a valid number"),
        (
            ["tune", "speech", "optim.lrr=log(1,2)"],
            "'optim.lrr=log(1,2)': no setting optim.lrr; did you mean",
        ),
        (["tune", "speech", "optim.lr=log(0,1)"], "'optim.lr=log(0,1)': a logarithm needs numbers above 0"),
        (["tune", "speech", "--scheduler", "ahsa"], "--scheduler 'ahsa': no such one; did you mean asha?"),
        (["tune", "speech", "--searcher", "bayes"], "--searcher 'bayes': no such one; known: grid, optuna"),
        (["tune", "speech", "--searcher", "grid"], "augment.voice = uniform(0,0.15): a grid needs points"),
        (["tune", "speech", "train.epochs=int(2,9)"], "train.epochs: asha compares trials of one length;"),
        (
            ["tune", "speech", "data.clips=int(100,200)"],
            "data.clips: a search compares trials on one data set",
        ),
        (
            ["tune", "speech", "--workers", "2:4"],
            "--workers 2:4: a trial has a fixed number; write --workers 2",
        ),
        (["train", "speech", "--preset", "smok"], "speech has no preset 'smok'; did you mean smoke?"),
        (
            ["train", "speech", "--workers", "none"],
            "--workers 'none': write a number such as 2, or a range such as 2:8",
        ),
        (["train", "speech", "--config", "none.toml"], "no config file 'none.toml'"),
        (["train"], "missing argument 'WORKLOAD'; see `penstock train --help`"),
        (["train", "speech", "--dta", "x"], "no such option: --dta (Possible options: --data, --track); see"),
        (["promote", "toy", "one", "live"], "invalid value for 'VERSION': Input should be a valid integer"),
    ],
)
def test_an_error_is_one_line_with_the_way_out(
    words: list[str], says: str, cli: Callable[..., Finished]
) -> None:
    assert cli(*words).error.startswith(f"penstock: {says}")


def test_a_broken_workload_spoils_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Finished]
) -> None:
    broken = tmp_path / "broken-0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0\n")
    (broken / "entry_points.txt").write_text("[penstock.workloads]\nbroken = no_such_module:workload\n")
    monkeypatch.syspath_prepend(tmp_path)
    listed = {row["name"]: row for row in cli("list", "--json").json["workloads"]}
    assert "cannot be imported" in listed["broken"]["summary"]
    assert listed["toy"]["presets"] == ["default", "gpu", "smoke"]


def test_the_last_line_is_json_whatever_is_printed_before_it(tmp_path: Path) -> None:
    code = (
        "from penstock.cli import main, shell\n"
        "import os, sys\n"
        "@shell.verb('noisy')\n"
        "def noisy(shell):\n"
        "    print('chatter'); os.system('echo more chatter'); return {'nan': float('nan'), 'path': os.sep}\n"
        "sys.argv[1:] = ['noisy', '--json']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout == '{"nan": null, "path": "/"}\n'
    assert "more chatter" in done.stderr


def test_global_options_stand_before_or_after_the_verb(tmp_path: Path, cli: Callable[..., Finished]) -> None:
    before = cli("--json", "--store", str(tmp_path / "a"), "models").json
    after = cli("models", "--json", "--store", str(tmp_path / "a")).json
    assert before == after == {"models": []}
    assert not (tmp_path / "store").exists()


def test_workers_are_a_number_or_a_range() -> None:
    assert how_many(None) is None
    assert how_many("3") == 3
    assert how_many("2:8") == (2, 8)
    for text in ("0", "-1", "2:", "8:2", "x", "2:8:9", "1.5"):
        with pytest.raises(PenstockError):
            how_many(text)


def test_figures_are_printed_with_their_interval() -> None:
    assert interval({"value": 0.95, "low": 0.93, "high": 0.9678}) == "0.950 (0.930 to 0.968)"
    assert interval({"value": None, "low": None, "high": None}) == "undefined"
    assert plain({"a": (1, float("inf")), "b": Path("x")}) == {"a": [1, None], "b": "x"}


def test_a_stranger_s_workload_must_be_what_its_entry_point_says() -> None:
    with pytest.raises(PenstockError, match="not installed"):
        catalog.find_reference("toy", "tests.toy:pair")


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_in_a_destructor_is_not_lost(number: signal.Signals, kind: type[BaseException]) -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt) as raised, stoppable():
        Deaf()
        time.sleep(60)
        pytest.fail("nobody heard it")
    assert raised.type is kind
