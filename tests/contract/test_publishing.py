"""Publishing against other writers and against SIGKILL: one winner a number, nothing lost, nothing half."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from penstock import registry
from penstock.errors import ModelError
from penstock.registry import publishing
from penstock.store import Store
from tests.versions import publish


def test_two_writers_of_one_number_have_exactly_one_winner_in_200_races(store: Store) -> None:
    """Two processes let go at the same moment for each of 200 numbers."""
    races = 200
    publish(store)
    start = multiprocessing.get_context("fork").Barrier(2)
    children = [
        fork(lambda report, who=who: report(json.dumps(race(store, who, races, start)))) for who in (0, 1)
    ]
    won = [set(json.loads(finish(pid, pipe))) for pid, pipe in children]
    assert won[0] | won[1] == set(range(2, races + 2)) and not won[0] & won[1]
    versions = registry.models(store, "toy")
    assert [version.version for version in versions] == list(range(1, races + 2))
    for version in versions[1:]:
        registry.verify(version)
        assert version.card["run"] == f"writer-{0 if version.version in won[0] else 1}"


def race(store: Store, who: int, races: int, start: Any) -> list[int]:
    """The numbers won by writer `who`, who commits what was published before."""
    folder, won = store.models / "toy", []
    contents = {name: (folder / "1" / name).read_bytes() for name in ("weights.safetensors", "records.arrow")}
    card = json.loads((folder / "1" / "card.json").read_text())
    card |= {"run": f"writer-{who}", "files": {name: card["files"][name] for name in contents}}
    for number in range(2, races + 2):
        start.wait()
        try:
            won.append(publishing.commit(folder, card, contents, live_first=True, version=number))
        except ModelError as error:
            assert "exists already" in str(error)
    return won


def test_writers_that_ask_for_no_number_lose_no_publish(store: Store) -> None:
    each = 10

    def write(who: int) -> str:
        return json.dumps([publish(store, run=f"{who}-{i}").version for i in range(each)])

    pids = [fork(lambda report, who=who: report(write(who))) for who in range(4)]
    numbers = [number for pid, pipe in pids for number in json.loads(finish(pid, pipe))]
    assert sorted(numbers) == list(range(1, 4 * each + 1))
    assert {version.card["run"] for version in registry.models(store)} == {
        f"{who}-{i}" for who in range(4) for i in range(each)
    }
    assert registry.aliases(store, "toy") == {"live": 1, "candidate": 4 * each}


def test_a_kill_at_every_step_of_publishing_loses_nothing_and_yields_nothing_half(store: Store) -> None:
    """SIGKILL before each system call that opens, writes, renames or flushes: an audit hook and the flush
    itself are the steps."""
    publish(store)
    steps = 0
    while True:
        before = {version.version for version in registry.models(store)}
        pid, pipe = fork(lambda report, step=steps: killed_at(step, lambda: publish(store)))
        pipe.close()
        status = os.waitpid(pid, 0)[1]
        listed = registry.models(store)
        assert [version.fault for version in listed] == [""] * len(listed)
        for version in listed:
            registry.verify(version)
        after = {version.version for version in listed}
        assert before <= after and len(after) <= len(before) + 1
        aliases = registry.aliases(store, "toy")
        assert aliases["live"] == 1 and aliases.get("candidate", max(after)) == max(after)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0 and len(after) == len(before) + 1
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        steps += 1
    assert steps >= 20, steps
    final = publish(store)  # no manual repair: the next writer just goes on
    assert final.version == max(after) + 1
    assert [path.name for path in (store.models / "toy").glob(".tmp-*")] == []


STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")


def killed_at(step: int, act: Callable[[], object]) -> None:
    """Runs `act`; the process kills itself when the step-th change to the disk is about to happen."""
    count = 0

    def tick() -> None:
        nonlocal count
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and not (event == "open" and reads(arguments)):
            tick()

    flush = os.fsync
    os.fsync = lambda descriptor: (tick(), flush(descriptor))[1]  # type: ignore[assignment]
    sys.addaudithook(hook)
    act()


def reads(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return (mode is not None and "r" in mode and "+" not in mode) or (
        mode is None and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )


# ---------------------------------------------------------------- processes


def fork(act: Callable[[Callable[[str], None]], object]) -> tuple[int, Any]:
    """A child that runs `act(report)` and exits; what it reports is read from the pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            act(lambda text: os.write(writing, text.encode()) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return pid, os.fdopen(reading)


def finish(pid: int, pipe: Any) -> str:
    with pipe:
        said: str = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said
