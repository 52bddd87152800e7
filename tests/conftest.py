"""What every test may ask for: a store of its own, the real data, one Ray for all.

The repository's root is put on the path, so that `tests.toy` is importable here, in Ray's workers and in
subprocesses, and the toy workload is installed the way a stranger's is: by an entry point.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import pytest

if TYPE_CHECKING:
    from tests.command import Finished

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: the path, and Ray's settings, which Ray reads on import."""
    toy = config.rootpath / "tests" / "installed"
    for place in (str(toy), str(ROOT)):
        if place not in sys.path:
            sys.path.insert(0, place)
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(ROOT), str(toy), *inherited]))
    for name, value in {
        "RAY_worker_niceness": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "MPLBACKEND": "Agg",
    }.items():
        os.environ.setdefault(name, value)
    # started in the background, the suite and all that it starts would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # a developer's own store and cluster must not be touched by a test
    for name in (
        "PENSTOCK_STORE",
        "PENSTOCK_TRACK",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
    ):
        os.environ.pop(name, None)


@pytest.fixture
def store(tmp_path: Path) -> object:
    """An empty Store below the test's own folder."""
    from penstock.store import Store

    return Store.open(tmp_path / "store")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch finds no weights on this machine, and no way to fetch them."""

    def refuse(*args: object, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Runs `penstock WORDS…` in this process, in the test's own store: a new process costs seconds."""
    from penstock.cli import main
    from tests.command import Finished

    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))

    def run(*words: object) -> Finished:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["penstock", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return Finished(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped, saying so, where there is none."""
    named = os.environ.get("PENSTOCK_TEST_DATA", "")
    if not named:
        pytest.skip("PENSTOCK_TEST_DATA names no folder of real data")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        pytest.skip(f"PENSTOCK_TEST_DATA={named} is not a folder")
    return folder.resolve()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[dict[str, object]], None]:
    """Keeps what a test measured: on stdout, and in the file that PENSTOCK_FIGURES names, one JSON line a
    test with date, machine and load; `make soak` names tests/benchmarks/soak.jsonl."""
    from tests.figures import keep

    def told(result: dict[str, object]) -> None:
        keep(request.node.nodeid, result)

    return told


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray with four logical CPUs for the whole session."""
    from penstock.cluster import ensure_ray, shutdown

    ensure_ray(cpus=4)
    yield
    shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork a training process come first, before OpenMP's threads have run in this one; tests on
    the session's Ray come last, since its client hangs in a forked child."""

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("forks"):
            return 0
        return 2 if "ray_session" in getattr(item, "fixturenames", ()) else 1

    items.sort(key=turn)


@pytest.fixture
def one_thread_each() -> Iterator[None]:
    """For small matrices: threads would only wait for each other."""
    from penstock.nn import one_thread

    with one_thread():
        yield
