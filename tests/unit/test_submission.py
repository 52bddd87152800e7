"""What a job is made of, without a cluster: its words, its environment, and how its process ends."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.config import parse_value
from penstock.errors import PenstockError
from penstock.jobs.submission import _environment, reserved, spelled
from tests.command import Finished, command, environment


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "no verb 'trian'; did you mean train?"),
        (["train", "toyy"], "no workload 'toyy'; did you mean toy?"),
        (["train", "speech", "optim.lrr=1"], "no setting optim.lrr; did you mean optim.lr?"),
        (["train", "speech", "--bogus"], "no such option: --bogus"),
        (["submit", "--", "list"], "submit -- submit: a job submits no jobs"),
        (["new", "waves"], "submit -- new: it writes a folder to work on here; run it from here"),
        (["train", "toy", "--config"], "option '--config' requires an argument"),
        (["train", "toy", "--data"], "option '--data' requires an argument"),
        (["--json", "list"], "submit: the verb comes first"),
        (["tune", "toy", "optim.lr=log(0,1)"], "'optim.lr=log(0,1)': a logarithm needs numbers above 0"),
        (["train", "toy", "--config", "none.toml"], "no config file 'none.toml'"),
        (["tune", "toy", "optim.lr=log(1e-3,1e-1)"], "no cluster is named"),
        (["list"], "no cluster is named"),
    ],
)
def test_a_verb_is_checked_before_anything_is_sent(
    words: list[str], says: str, cli: Callable[..., Finished]
) -> None:
    assert cli("submit", "--", *words).error.startswith(f"penstock: {says}")


def test_a_config_file_is_sent_as_the_words_that_mean_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'data.note = "say \\"é\\""\n[train]\nbatch = 64\nema = 1e-05\n[optim]\nlr = 0.5\n'
        "[model]\nsizes = [1, 2]\n"
    )
    for given in (["--config", str(file)], [f"--config={file}"]):
        words = spelled(["train", "toy", *given, "optim.lr=0.1", "--preset", "smoke"])
        assert words[:5] == ["train", "toy", "optim.lr=0.1", "--preset", "smoke"]
        nested: dict[str, Any] = {}
        for word in words[5:]:
            name, _, text = word.partition("=")
            section, _, key = name.partition(".")
            nested.setdefault(section, {})[key] = parse_value(text)
        sent = {"data": {"note": 'say "é"'}, "train": {"batch": 64, "ema": 1e-5}, "model": {"sizes": [1, 2]}}
        assert nested == sent, "what the words say themselves wins, so the file's is left out"
    assert spelled(["list"]) == ["list"]


def test_relative_paths_are_of_the_folder_that_the_job_is_submitted_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    for words, meant in (
        ("prepare pathology imagefolder:pat/x", f"prepare pathology imagefolder:{here}/pat/x"),
        ("prepare --skip-bad 2 toy csv:a optim.x=a:b", f"prepare --skip-bad 2 toy csv:{here}/a optim.x=a:b"),
        ("train toy --data=voc:v --store s", f"train toy --data=voc:{here}/v --store {here}/s"),
        ("train toy --track tensorboard:t", f"train toy --track tensorboard:{here}/t"),
        ("predict toy@1 --json a b --output=c", f"predict toy@1 --json {here}/a {here}/b --output={here}/c"),
        ("train toy --data ~/d", "train toy --data ~/d"),  # names no format: the verb says so
        ("evaluate toy --data csv:~/d", f"evaluate toy --data csv:{Path.home()}/d"),
    ):
        assert spelled(words.split()) == meant.split()
    for same in (
        "prepare toy synthetic --store s3://bucket//a",
        "prepare toy csv:/a",
        "train toy --data synthetic --track mlflow:sqlite:///a.db --store=",
        "prepare toy csv:https://a//b",
        "predict toy",
    ):
        assert spelled(same.split()) == same.split()
    with pytest.raises(PenstockError, match="'~nobody-here/a': there is no such home folder"):
        spelled(["list", "--store", "~nobody-here/a"])


@pytest.mark.parametrize("number", ["inf", "1e999"])
@pytest.mark.parametrize("option", ["--cpus", "--gpus"])
def test_what_is_reserved_is_finite(option: str, number: str, cli: Callable[..., Finished]) -> None:
    told = cli("submit", "--address", "http://127.0.0.1:1", option, number, "--", "list").error
    assert told == f"penstock: {option} inf: nothing has so many; write a number such as 1"


def test_what_a_command_reserves_is_told_in_words() -> None:
    assert reserved(100, 0) == "100 CPUs" and reserved(1, 0.5) == "1 CPU, 0.5 GPUs" and reserved(0, 0) == ""


def test_no_secret_is_in_a_job_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    made = _environment(["gcs://a.zip"], "s3://bucket/p", tokens=True)
    assert "hush" not in json.dumps(made) and "RAY_AUTH_MODE" not in made["env_vars"]
    assert made["py_modules"] == ["gcs://a.zip"] and made["env_vars"]["PENSTOCK_STORE"] == "s3://bucket/p"
    assert _environment([], "/s", tokens=False)["env_vars"]["RAY_AUTH_MODE"] == "disabled"


# ---------------------------------------------------------------- a job's own process


def test_a_stop_that_comes_when_all_is_said_disturbs_nothing(tmp_path: Path) -> None:
    late = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT); "
    [python, option, code, *words] = command("list")
    done = subprocess.run(
        [python, option, late + code, *words],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "") and "toy" in done.stdout


@pytest.mark.parametrize(("variables", "heard"), [({"RAY_JOB_STOP_SIGNAL": "SIGINT"}, True), ({}, False)])
def test_a_job_hears_its_stop_where_ray_was_started_in_the_background(
    variables: dict[str, str], heard: bool, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_SIGNAL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli("list").code == 0
        assert (signal.getsignal(signal.SIGINT) is signal.default_int_handler) == heard
    finally:
        signal.signal(signal.SIGINT, before)
