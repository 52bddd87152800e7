"""Verbs as Ray jobs, on a cluster behind a token that knows neither this tree nor the workload."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import httpx
import pytest

from tests import heads
from tests.command import Finished, command, environment, penstock
from tests.heads import Head

ROOT = Path(__file__).resolve().parents[2]
TOLD = "this is the tree that was sent"
STRAY_BYTES = 1024**3


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with heads.started() as one:
        yield one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed where jobs are submitted: `waves`, a stranger's workload, as a wheel, and Penstock,
    from a copy of this tree that says so when it runs and has a stray file of 1 GiB in it."""
    place = tmp_path_factory.mktemp("submitting")
    tree, packages = place / "tree", place / "site"
    for folder in ("platform", "workloads"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    main = tree / "platform" / "penstock" / "__main__.py"
    main.write_text(main.read_text().replace("if __name__", f"print({TOLD!r})\n\nif __name__"))
    with (tree / "stray.bin").open("wb") as stray:
        stray.truncate(STRAY_BYTES)
    own = distribution("penstock")
    described = packages / f"penstock-{own.version}.dist-info"
    described.mkdir(parents=True)
    for name in ("METADATA", "entry_points.txt"):
        (described / name).write_text(own.read_text(name) or "")
    (described / "direct_url.json").write_text(
        json.dumps({"dir_info": {"editable": True}, "url": tree.as_uri()})
    )
    written = penstock("new", "waves", "--into", place, "--json", store=place / "store").json["path"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    offline = ["--no-deps", "--no-build-isolation", "--target", str(packages), str(written)]
    subprocess.run([*pip, *offline], check=True, capture_output=True, text=True)
    return packages


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture
def say(head: Head, site: Path, store: Path) -> Callable[..., Finished]:
    """Runs a verb beside the cluster, with its token."""

    def run(*words: object, env: dict[str, str] | None = None) -> Finished:
        return penstock(*map(str, words), store=store, path=site, env={**head.env, **(env or {})})

    return run


def test_a_job_trains_a_stranger_s_workload_and_another_process_uses_what_it_made(
    head: Head, say: Callable[..., Finished], figures: Callable[[dict[str, object]], None]
) -> None:
    words = ("--", "train", "waves", "train.epochs=3", "--workers", 1)
    began = time.monotonic()
    done = say("submit", "--address", head.url, "--id", "first", "--json", *words)
    seconds = time.monotonic() - began
    assert done.json == {"job": "first", "status": "SUCCEEDED", "exit_code": 0}
    sizes = dict(line.split(": a wheel of ") for line in done.err.splitlines() if ": a wheel of " in line)
    assert len(sizes) == 2 and all("; largest files: " in size for size in sizes.values())
    assert "not sent: penstock-toy 0 has no RECORD" in done.err  # the suite's own are installed by hand
    assert TOLD in done.err and "published waves@1" in done.err  # the log
    assert len([line for line in done.err.splitlines() if line.startswith("epoch 2:")]) == 1
    figures(
        {
            "round_trip_s": round(seconds, 1),
            "wheels": {name: size.partition(";")[0] for name, size in sizes.items()},
        }
    )

    judged = say("evaluate", "waves@1", "--json").json
    [made] = say("models", "waves", "--json").json["models"]
    assert judged["metrics"] == made["metrics"]

    # the same id again: one job, which is followed; nothing is sent
    again = say("submit", "--address", head.url, "--id", "first", *words)
    assert again.code == 0 and "is there already, succeeded" in again.out and "a wheel of" not in again.out
    assert again.out.count("published waves@1") == 1
    other = say("submit", "--address", head.url, "--id", "first", "--", "list")
    assert "job 'first' is there already, as 'penstock train waves train.epochs=3" in other.error
    rows = say("jobs", "list", "--address", head.url, "--json").json["jobs"]
    assert [(row["job"], row["status"]) for row in rows] == [("first", "SUCCEEDED")]


def test_a_job_that_fails_ends_with_its_verb_s_exit_code_and_cause(
    head: Head, say: Callable[..., Finished]
) -> None:
    words = ("--", "train", "waves", "optim.lr=1e30", "optim.clip=0", "--name", "bad", "--workers", 1)
    failed = say("submit", "--address", head.url, "--id", "bad", *words)
    why = "run 'bad': the loss of step"
    assert failed.code == 1 and failed.out.splitlines()[-1].startswith(f"penstock: {why}")
    assert failed.err.startswith(f"penstock: job bad failed (exit code 1): {why}")
    wrong = say("submit", "--address", head.url, "--json", "--", "evaluate", "waves@77")
    assert wrong.code == 2 and json.loads(wrong.out)["exit_code"] == 2
    assert "no version 77 of model waves" in wrong.err.splitlines()[-1]


def test_a_missing_and_a_wrong_token_are_said_in_one_line(
    head: Head, say: Callable[..., Finished], tmp_path: Path
) -> None:
    hush = "0123456789abcdef" * 4
    wrong, missing = {"RAY_AUTH_TOKEN": hush}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    submit = ("submit", "--address", head.url, "--", "list")
    train = ("train", "waves", "train.epochs=3", "--name", "elsewhere", "--workers", 2)
    for words, where in ((submit, {}), (train, {"RAY_ADDRESS": head.address})):
        told = say(*words, env={**where, **wrong}).error
        assert "refuses the token of RAY_AUTH_TOKEN" in told and hush not in told
        told = say(*words, env={**where, **missing}).error
        place = f"RAY_AUTH_TOKEN or '{tmp_path / 'none'}', the file that RAY_AUTH_TOKEN_PATH names"
        assert f"asks for a token and none was found; put it into {place}" in told
        assert not (tmp_path / "none").exists()
    assert "no job 'frist' at" in say("jobs", "stop", "frist", "--address", head.url).error


def test_ctrl_c_leaves_a_job_alone_and_stop_ends_it_in_order(
    head: Head, site: Path, store: Path, say: Callable[..., Finished]
) -> None:
    words = ("--", "train", "waves", "train.epochs=100000", "--name", "long", "--workers", "1")
    following = subprocess.Popen(
        command("submit", "--address", head.url, "--id", "long", *words),
        env=environment(store, site, head.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        assert any(line.startswith("epoch 1:") for line in following.stdout)
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=60)
    finally:
        following.kill()
    assert following.returncode == 130
    assert errors == (
        "penstock: job long goes on: penstock jobs logs long --follow; penstock jobs stop long ends it\n"
    )
    rows = say("jobs", "list", "--address", head.url, "--json").json["jobs"]
    assert [row["status"] for row in rows if row["job"] == "long"] == ["RUNNING"]
    stopped = say("jobs", "stop", "long", "--address", head.url, "--json").json
    assert stopped["status"] == "STOPPED"
    log = say("jobs", "logs", "long", "--address", head.url).out
    assert log.splitlines()[-1].startswith("penstock: stopped; the same command")


def test_a_job_without_a_place_says_what_it_reserves_and_a_stop_waits_for_it(
    head: Head, site: Path, store: Path, say: Callable[..., Finished]
) -> None:
    words = ("--", "train", "waves", "train.epochs=100000", "--name", "first", "--workers", "1")
    say("submit", "--address", head.url, "--id", "all", "--cpus", 4, "--no-wait", "--json", *words)
    until = time.monotonic() + 120
    while status(head, say, "all") == "PENDING":
        assert time.monotonic() < until
        time.sleep(0.2)
    following = subprocess.Popen(
        command("submit", "--address", head.url, "--id", "next", "--cpus", "1", "--", "list"),
        env=environment(store, site, head.env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stderr is not None
        line = following.stderr.readline()
        assert line.startswith("penstock: job next is pending: ")
        assert line.endswith("; its command reserves 1 CPU; penstock jobs stop next gives up\n")
        stopped = say("jobs", "stop", "next", "--address", head.url)
        assert stopped.code == 0
        assert stopped.out.startswith("job next is still pending: it ends when it gets its place, at the ")
        assert say("jobs", "stop", "all", "--address", head.url, "--json").json["status"] == "STOPPED"
        assert following.wait(timeout=60) == 130
    finally:
        following.kill()
    assert status(head, say, "next") == "STOPPED"


def status(head: Head, say: Callable[..., Finished], job: str) -> str:
    rows = say("jobs", "list", "--address", head.url, "--json").json["jobs"]
    [found] = [row["status"] for row in rows if row["job"] == job]
    return str(found)


@pytest.mark.soak
def test_a_job_trains_a_real_workload_on_two_workers_and_another_serves_it(
    head: Head, say: Callable[..., Finished], figures: Callable[[dict[str, object]], None]
) -> None:
    began = time.monotonic()
    words = ("--", "train", "pathology", "--preset", "smoke", "--workers", 2, "--name", "patches")
    trained = say("submit", "--address", head.url, "--id", "patches", "--json", *words)
    assert trained.json["status"] == "SUCCEEDED" and "published pathology@1" in trained.err
    figures({"train_s": round(time.monotonic() - began, 1)})
    [port] = heads.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    serve = ("--", "serve", "pathology@1", "--port", port)
    say("submit", "--address", head.url, "--id", "endpoint", "--no-wait", "--json", *serve)
    until = time.monotonic() + 180
    while (
        time.monotonic() < until
        and f"serving at {url}" not in say("jobs", "logs", "endpoint", "--address", head.url).out
    ):
        time.sleep(1)
    judged = say("evaluate", "pathology@1", "--through", url, "--json").json
    assert judged["through"]["requests"] == judged["items"] > 0
    stopped = say("jobs", "stop", "endpoint", "--address", head.url, "--json").json
    assert stopped["status"] == "STOPPED"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", timeout=5, trust_env=False)
    # Serve is gone from the cluster, so another job can serve
    again = say("submit", "--address", head.url, "--id", "again", "--no-wait", "--json", *serve).json
    assert again["status"] in ("PENDING", "RUNNING")
    until = time.monotonic() + 180
    while time.monotonic() < until and f"serving at {url}" not in (
        log := say("jobs", "logs", "again", "--address", head.url).out
    ):
        assert "penstock: " not in log
        time.sleep(1)
    assert say("jobs", "stop", "again", "--address", head.url, "--json").json["status"] == "STOPPED"
