"""What is in a store is committed or absent, whatever happens to a writer and whenever it happens."""

from __future__ import annotations

import builtins
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import StoreError
from penstock.store import (
    Busy,
    Store,
    discard_folder,
    lock,
    publish_folder,
    sha256_file,
    sweep,
    write_atomic,
)
from tests.folders import FILES, content, publish


def unfinished(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.name.startswith(".tmp-")]


# ---------------------------------------------------------------- killed at every step


def in_child(work: Callable[[], Any]) -> int:
    """Runs `work` in a forked process; its exit code, negative where a signal ended it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work()
            code = 0
        except FileExistsError:
            code = 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_before_step(number: int) -> None:
    """From here on, the process is killed right before its `number`-th call that changes the disk."""
    left = [number]

    def armed(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    for name in ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir", "ftruncate", "pwrite"):
        setattr(os, name, armed(getattr(os, name)))
    opened = armed(io.open)
    io.open = builtins.open = opened  # type: ignore[assignment]


def kill_at_each_step(work: Callable[[], Any], check: Callable[[], Any]) -> int:
    """Kills `work` before its first disk call, then before its second, and so on until it gets through;
    calls `check` after each. The number of kills."""
    for step in range(200):
        code = in_child(lambda step=step: (kill_before_step(step), work()))  # type: ignore[misc]
        assert code in (0, -signal.SIGKILL), code
        check()
        if code == 0:
            return step
    raise AssertionError("200 steps and no end")


def test_a_kill_at_any_step_of_publishing_leaves_the_whole_folder_or_none(tmp_path: Path) -> None:
    publish(tmp_path, "1")

    def check() -> None:
        assert content(tmp_path / "1") == FILES
        if (tmp_path / "2").exists():
            assert content(tmp_path / "2") == FILES
            discard_folder(tmp_path / "2")
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        publish(tmp_path, "3")  # nothing is in the way of the next writer
        discard_folder(tmp_path / "3")

    # made: the folder, its subfolder, three files; flushed: all five; renamed; the parent flushed
    assert kill_at_each_step(lambda: publish(tmp_path, "2"), check) >= 12


def test_a_kill_at_any_step_of_replacing_a_file_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "alias.json"
    write_atomic(file, b"old")

    def check() -> None:
        assert file.read_bytes() in (b"old", b"new" * 1000)
        sweep(tmp_path)
        assert unfinished(tmp_path) == []
        write_atomic(file, b"old")

    assert kill_at_each_step(lambda: write_atomic(file, b"new" * 1000), check) >= 5


def test_a_kill_at_any_step_of_discarding_never_shows_half_a_folder(tmp_path: Path) -> None:
    publish(tmp_path, "1")

    def check() -> None:
        if not (tmp_path / "1").exists():
            publish(tmp_path, "1")
        assert content(tmp_path / "1") == FILES
        sweep(tmp_path)
        assert unfinished(tmp_path) == []

    assert kill_at_each_step(lambda: discard_folder(tmp_path / "1"), check) >= 8


# ---------------------------------------------------------------- two writers


def race(tmp_path: Path, rounds: int) -> tuple[list[list[int]], list[dict[str, bytes]]]:
    """Two processes publish the same names at the same moment: who won each (0 = won), and what is there."""
    ready, go = os.pipe(), os.pipe()
    won = [tmp_path / f"won-{writer}" for writer in range(2)]

    def writer(number: int) -> None:
        os.write(ready[1], b".")
        os.read(go[0], 1)
        results = bytearray()
        for name in range(rounds):
            # both start each round at the same time, without a sleep
            (tmp_path / f"at-{number}-{name}").touch()
            while not (tmp_path / f"at-{1 - number}-{name}").exists():
                os.sched_yield()
            try:
                publish(tmp_path / "models", str(name), {"who": bytes([number]) * 100})
                results.append(0)
            except FileExistsError:
                results.append(3)
        won[number].write_bytes(results)

    pids = []
    for number in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                writer(number)
            finally:
                os._exit(0)
        pids.append(pid)
    os.read(ready[0], 1), os.read(ready[0], 1)
    os.write(go[1], b"..")
    for pid in pids:
        os.waitpid(pid, 0)
    codes = [list(each) for each in zip(*(file.read_bytes() for file in won), strict=True)]
    return codes, [content(tmp_path / "models" / str(name)) for name in range(rounds)]


def test_of_two_writers_for_one_name_exactly_one_wins_200_times(tmp_path: Path) -> None:
    codes, found = race(tmp_path, 200)
    assert len(codes) == 200
    assert all(sorted(pair) == [0, 3] for pair in codes)
    for pair, files in zip(codes, found, strict=True):
        assert files == {"who": bytes([pair.index(0)]) * 100}  # the winner's, and whole
    assert unfinished(tmp_path / "models") == []


def test_a_published_name_is_never_replaced(tmp_path: Path) -> None:
    publish(tmp_path, "1")
    with pytest.raises(FileExistsError):
        publish(tmp_path, "1", {"other": b"x"})
    assert content(tmp_path / "1") == FILES
    assert unfinished(tmp_path) == []


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publish_folder(tmp_path, "1") as folder:
        (folder / "half").write_bytes(b"x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_spares_writers_that_live(tmp_path: Path) -> None:
    with publish_folder(tmp_path, "1") as folder:
        (folder / "x").write_bytes(b"x")
        # a writer on another machine: its pid means nothing here, its lock does
        abroad = folder.rename(tmp_path / f".tmp-{2**22 + 1}-abroad")
        assert sweep(tmp_path) == []
        abroad.rename(folder)
    assert content(tmp_path / "1") == {"x": b"x"}
    (tmp_path / f".tmp-{2**22 + 1}-dead").mkdir()
    (tmp_path / f".tmp-{2**22 + 1}-file").write_bytes(b"")
    assert len(sweep(tmp_path)) == 2
    assert sweep(tmp_path / "nowhere") == []


# ---------------------------------------------------------------- the lock


def test_a_lock_goes_with_its_process_and_names_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "run" / ".lock"
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock(file):
            os.write(ready[1], b".")
            signal.pause()
    os.read(ready[0], 1)
    with pytest.raises(Busy, match=str(pid)) as caught, lock(file, blocking=False):
        pass
    assert caught.value.pid == pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with lock(file, blocking=False):
        pass


def test_a_blocking_lock_waits_its_turn(tmp_path: Path) -> None:
    file, log = tmp_path / ".lock", tmp_path / "log"

    def work() -> None:
        for _ in range(50):
            with lock(file):
                number = int(log.read_text() or 0) if log.exists() else 0
                os.sched_yield()
                log.write_text(str(number + 1))

    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    assert log.read_text() == "150"


# ---------------------------------------------------------------- a disk that will not


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
    yield place
    for _ in range(50):  # a mapping or a descriptor of a test that failed may still hold it
        if subprocess.run(["umount", str(place)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_in_one_line_and_loses_nothing(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    publish(store.models, "1")
    write_atomic(store.models / "alias.json", b"live")
    for write in (
        lambda: publish(store.models, "2", {"weights.bin": b"w" * 3_000_000}),
        lambda: write_atomic(store.models / "alias.json", b"w" * 3_000_000),
    ):
        with pytest.raises(
            StoreError, match=r"disk full while writing .*; free space in .*PENSTOCK_STORE"
        ) as e:
            write()
        assert "\n" not in str(e.value)
        assert content(store.models) == {f"1/{name}": data for name, data in FILES.items()} | {
            "alias.json": b"live"
        }
        assert unfinished(store.models) == []
    publish(store.models, "2")  # what was written in vain is free again
    assert content(store.models / "2") == FILES


def test_a_read_only_disk_is_said_in_one_line(small_disk: Path) -> None:
    store = Store.open(small_disk / "store")
    publish(store.models, "1")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert content(Store.open(small_disk / "store").models / "1") == FILES  # reading goes on
    with pytest.raises(StoreError, match=r"read-only file system at .*PENSTOCK_STORE"):
        publish(store.models, "2")
    with pytest.raises(StoreError, match=r"read-only file system at .*PENSTOCK_STORE"):
        Store.open(small_disk / "other")


# ---------------------------------------------------------------- where it is


def test_a_store_is_where_it_is_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PENSTOCK_STORE", raising=False)
    assert Store.open().root == tmp_path / "home" / ".penstock"
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "named"))
    assert Store.open().root == tmp_path / "named"
    store = Store.open(tmp_path / "given")
    assert store.root == tmp_path / "given"
    assert store.datasets.is_dir() and store.runs.is_dir() and store.models.is_dir()


def test_a_place_that_cannot_be_a_store_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gs://bucket/x.*only folders and s3://"):
        Store.open("gs://bucket/x")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="is not a folder, or lies in a file"):
            Store.open(place)


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_lost_source_file_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError), publish_folder(tmp_path / "store", "1"):
        Path("/dev/null/raw.png").read_bytes()
