"""A store in a bucket keeps what a folder promises: committed or absent, one winner, one holder of a lock;
whatever happens to a request, to a process, or to a machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import Damaged, StoreError
from penstock.store import (
    Busy,
    Store,
    append_object,
    arrow_place,
    clear_folder,
    current,
    discard_file,
    discard_folder,
    fetched,
    gathered,
    listed,
    lock,
    lock_held,
    mirrors,
    piece,
    publish_folder,
    pull,
    push,
    read_objects,
    subfolders,
    sweep,
    write_atomic,
)
from penstock.store import lease as leases
from penstock.store import mirror as mirrored
from penstock.store.bucket import PROBE, Bucket
from penstock.store.client import HASTY, PATIENT
from tests.buckets import Proxy, another_machine
from tests.buckets import bucket as bucket  # fixtures
from tests.buckets import s3 as s3
from tests.folders import FILES, content, publish


def keys(store: Store) -> list[str]:
    """Every object of the store."""
    return [entry.key for entry in mirrors[store.root].bucket.entries("") if entry.key != PROBE]


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    # botocore waits up to a second before it asks again
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    made = Proxy(s3)
    yield made
    made.close()


@pytest.fixture
def store(bucket: str) -> Store:
    return Store.open(bucket)


@pytest.fixture
def through(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same store, whose requests go through the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    return Store.open(bucket)


# ---------------------------------------------------------------- the same promises


@pytest.fixture(params=["folder", "bucket"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of both kinds: no reader or writer asks which."""
    if request.param == "folder":
        return Store.open(tmp_path / "store")
    return Store.open(request.getfixturevalue("bucket"))


def test_a_folder_and_a_bucket_promise_the_same(either: Store) -> None:
    toy = either.models / "toy"
    assert listed(toy) == subfolders(either.models) == []
    for read in (lambda: current(toy / "aliases.json"), lambda: piece(toy / "1", "card.json")):
        with pytest.raises(FileNotFoundError):
            read()
    publish(toy, "1")
    with pytest.raises(FileExistsError):
        publish(toy, "1", {"other": b"x"})
    with pytest.raises(ZeroDivisionError), publish_folder(toy, "2") as folder:
        (folder / "half").write_bytes(b"x")
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="nothing was written"), publish_folder(toy, "3"):
        pass
    assert listed(toy) == ["1"] and subfolders(either.models) == ["toy"]
    assert content(fetched(toy / "1")) == FILES and piece(toy / "1", "card.json") == b"{}"
    with lock(toy / ".lock"):
        assert lock_held(toy / ".lock")
        with pytest.raises(Busy, match=str(os.getpid())), lock(toy / ".lock", blocking=False):
            pass
        write_atomic(toy / "aliases.json", b"1")
        write_atomic(toy / "aliases.json", b"22")
    assert current(toy / "aliases.json") == b"22"
    write_atomic(either.runs / "pictures" / "1.png", b"x")
    assert content(gathered(either.runs / "pictures")) == {"1.png": b"x"}
    for _ in range(2):
        discard_file(either.runs / "pictures" / "1.png")
        discard_folder(toy / "1")
    assert listed(toy) == [] and content(gathered(either.runs / "pictures")) == {}
    publish(toy, "1", {"other": b"x"})
    assert content(fetched(toy / "1")) == {"other": b"x"}
    assert sweep(toy) == []


def test_what_one_machine_commits_another_one_finds_whole(bucket: str, store: Store, tmp_path: Path) -> None:
    publish(store.models / "toy", "1")
    write_atomic(store.models / "toy" / "aliases.json", b"1")
    with another_machine(tmp_path / "other"):
        other = Store.open(bucket)
        assert other.root != store.root and other.url == store.url == bucket
        toy = other.models / "toy"
        assert subfolders(other.models) == ["toy"] and listed(toy) == ["1"]
        assert piece(toy / "1", "card.json") == b"{}" and not (toy / "1").exists()
        assert content(fetched(toy / "1")) == FILES
        assert current(toy / "aliases.json") == b"1"
        write_atomic(toy / "aliases.json", b"2")
        with pytest.raises(FileExistsError):
            publish(toy, "1", {"other": b"x"})
    assert current(store.models / "toy" / "aliases.json") == b"2"
    assert len(keys(store)) == 5  # three files, a marker, the aliases: the loser left nothing


def test_a_folder_of_the_same_name_is_another_one(bucket: str, store: Store, tmp_path: Path) -> None:
    run = store.runs / "x"
    publish(store.runs, "x")
    publish(run / "checkpoints", "00000010")
    write_atomic(run / "attempts.json", b"1")
    with another_machine(tmp_path / "other"):
        other = Store.open(bucket)
        assert listed(fetched(other.runs / "x") / "checkpoints") == ["00000010"]
        discard_folder(other.runs / "x")
        assert keys(store) == []
        publish(other.runs, "x", {"run.json": b"new"})
    assert content(fetched(run)) == {"run.json": b"new"}
    assert listed(run / "checkpoints") == []
    with pytest.raises(FileNotFoundError):
        current(run / "attempts.json")


def test_files_come_and_go_with_the_bucket(bucket: str, store: Store, tmp_path: Path) -> None:
    pictures, log = store.runs / "pictures", store.runs / "metrics.jsonl"
    write_atomic(pictures / "1.png", b"one")
    write_atomic(pictures / "2.png", b"two")
    log.write_bytes(b"line\n")
    push(log)
    with another_machine(tmp_path / "other"):
        other = Store.open(bucket)
        assert content(gathered(other.runs / "pictures")) == {"1.png": b"one", "2.png": b"two"}
        discard_file(other.runs / "pictures" / "1.png")
        write_atomic(other.runs / "pictures" / "2.png", b"owt")
        pull(other.runs / "metrics.jsonl")
        assert (other.runs / "metrics.jsonl").read_bytes() == b"line\n"
    assert content(gathered(pictures)) == {"2.png": b"owt"}
    pull(store.runs / "never")
    assert not (store.runs / "never").exists()


def test_what_a_library_writes_by_itself_lies_in_the_same_place(store: Store) -> None:
    scratch = store.runs / "x" / ".ray"
    place, system = arrow_place(scratch)
    with system.open_output_stream(f"{place}/marker") as file:
        file.write(b"Ray's")
    assert current(scratch / "marker") == b"Ray's"
    clear_folder(scratch)
    assert keys(store) == []


def test_a_file_that_was_altered_in_the_bucket_is_refused(bucket: str, store: Store, tmp_path: Path) -> None:
    publish(store.models, "1")
    server = mirrors[store.root].bucket
    for key in keys(store):
        if key.endswith("weights.bin"):
            server.put(key, b"v" * 5_000)
    with another_machine(tmp_path / "other"):
        with pytest.raises(Damaged, match=r"models/1 is damaged in the bucket: weights\.bin"):
            fetched(Store.open(bucket).models / "1")
        assert listed(Store.open(bucket).models) == ["1"]
    for key in keys(store):
        if key.endswith("weights.bin"):
            server.delete(key)
    with another_machine(tmp_path / "third"), pytest.raises(Damaged, match="missing"):
        fetched(Store.open(bucket).models / "1")


def test_a_folder_damaged_on_this_disk_is_brought_again(store: Store) -> None:
    publish(store.models, "1")
    (store.models / "1" / "weights.bin").write_bytes(b"cut short")
    assert content(fetched(store.models / "1")) == FILES


def test_who_appends_to_a_log_gets_a_number_of_its_own(bucket: str, store: Store, tmp_path: Path) -> None:
    log = store.searches / "log"

    def write(store: Store, who: int) -> None:
        for number in range(10):
            append_object(store.searches / "log", f"{who} {number}".encode())

    with another_machine(tmp_path / "other"):
        other = Store.open(bucket)
        threads = [threading.Thread(target=write, args=(each, i)) for i, each in enumerate((store, other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = [record.decode() for record in read_objects(log)]
    assert sorted(told) == sorted(f"{who} {number}" for who in range(2) for number in range(10))
    for who in "01":  # in the order of each writer
        assert [line for line in told if line[0] == who] == [f"{who} {number}" for number in range(10)]
    assert [record.decode() for record in read_objects(log, 17)] == told[17:]


def _mirror_again(store: Store, url: str) -> mirrored.Mirror:
    return mirrored.Mirror(store.root, Bucket(url))


# ---------------------------------------------------------------- every request, spoilt


def requests_of(proxy: Proxy, work: Callable[[], Any]) -> list[str]:
    proxy.begin()
    work()
    return list(proxy.seen)


def killed(proxy: Proxy, number: int, when: str, work: Callable[[], Any]) -> int:
    """Runs `work` in a forked process that is killed at its request `number`; its exit code."""
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.read(ready[0], 1)
            work()
            code = 0
        finally:
            os._exit(code)
    proxy.begin(lambda seen: f"kill {when}" if seen == number else "pass", victim=pid)
    os.write(ready[1], b".")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(ready[0])
    os.close(ready[1])
    return code


def whole_or_absent(bucket: str, place: Path) -> bool:
    """Whether another machine finds version 2; it is whole where it does."""
    with another_machine(place):
        models = Store.open(bucket).models
        if listed(models) == ["1"]:
            return False
        assert listed(models) == ["1", "2"]
        assert content(fetched(models / "2")) == FILES
    return True


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_request_of_publishing_leaves_the_whole_version_or_none(
    bucket: str, through: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    publish(through.models, "1")
    there = len(keys(through))
    total = len(requests_of(proxy, lambda: publish(through.models, "2")))
    discard_folder(through.models / "2")
    assert total >= 5  # is it there? three files, the marker
    monkeypatch.setattr(mirrored, "SETTLED_S", 0.0)
    for number in range(total):
        assert killed(proxy, number, when, lambda: publish(through.models, "2")) == -signal.SIGKILL
        proxy.begin()
        if whole_or_absent(bucket, tmp_path / f"{number}"):
            with pytest.raises(FileExistsError):
                publish(through.models, "2", {"other": b"x"})
        else:
            publish(through.models, "2")
        assert whole_or_absent(bucket, tmp_path / f"{number} again")
        sweep(through.models)
        assert len(keys(through)) == there + 4, keys(through)
        discard_folder(through.models / "2")
    assert len(keys(through)) == there


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_any_request_of_publishing_is_tried_again_and_commits_once(
    bucket: str, through: Store, proxy: Proxy, tmp_path: Path, when: str
) -> None:
    publish(through.models, "1")
    total = len(requests_of(proxy, lambda: publish(through.models, "2")))
    there = len(keys(through))
    discard_folder(through.models / "2")
    for number in range(total):
        proxy.begin(lambda seen, number=number: when if seen == number else "pass")  # type: ignore[misc]
        publish(through.models, "2")  # its own marker is not taken for another's
        assert len(proxy.seen) > total
        proxy.begin()
        assert whole_or_absent(bucket, tmp_path / str(number))
        assert len(keys(through)) == there
        discard_folder(through.models / "2")


@pytest.mark.parametrize("when", ["before", "after", "half"])
def test_a_cut_at_any_request_of_fetching_is_tried_again(
    bucket: str, through: Store, proxy: Proxy, tmp_path: Path, when: str
) -> None:
    publish(through.models, "1")
    with another_machine(tmp_path / "one"):
        models = Store.open(bucket).models
        total = len(requests_of(proxy, lambda: fetched(models / "1")))
    assert total == 4  # the marker, three files
    for number in range(total):
        with another_machine(tmp_path / str(number)):
            models = Store.open(bucket).models
            proxy.begin(lambda seen, number=number: when if seen == number else "pass")  # type: ignore[misc]
            assert content(fetched(models / "1")) == FILES
            assert len(proxy.seen) == total + 1


def test_a_long_file_goes_in_parts(bucket: str, store: Store, tmp_path: Path) -> None:
    long = {"weights.bin": bytes(range(256)) * 40_000}  # 10 MB
    publish(store.models, "1", long)
    assert any("-" in entry.etag for entry in mirrors[store.root].bucket.entries("models/"))
    with another_machine(tmp_path / "other"):
        assert content(fetched(Store.open(bucket).models / "1")) == long


def test_when_the_server_is_gone_from_some_request_on_it_is_said_and_nothing_is_half(
    bucket: str, through: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(through.models, "1")
    total = len(requests_of(proxy, lambda: publish(through.models, "2")))
    discard_folder(through.models / "2")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    mirrors[through.root] = _mirror_again(through, bucket)
    for number in range(total):
        proxy.begin(lambda seen, number=number: "before" if seen >= number else "pass")  # type: ignore[misc]
        with pytest.raises(StoreError, match="does not answer") as caught:
            publish(through.models, "2")
        assert "\n" not in str(caught.value)
        proxy.begin()
        assert not whole_or_absent(bucket, tmp_path / str(number))
        assert not (through.models / "2").exists()
    publish(through.models, "2")
    assert whole_or_absent(bucket, tmp_path / "last")


def test_a_server_that_starts_again_is_waited_for_once_it_has_answered(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *given: 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    proxy.begin(lambda number: "before" if number < HASTY else "pass")
    with another_machine(tmp_path / "hasty"), pytest.raises(StoreError, match="does not answer"):
        Store.open(bucket)
    proxy.begin()
    with another_machine(tmp_path / "patient"):
        store = Store.open(bucket)
        proxy.begin(lambda number: "before" if number < PATIENT - 1 else "pass")
        publish(store.models, "1")
        assert len(proxy.seen) > PATIENT
        assert content(fetched(store.models / "1")) == FILES


def test_a_kill_at_any_request_of_discarding_shows_no_half_of_it(
    bucket: str, through: Store, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "2"):
        assert killed(proxy, -1, "", lambda name=name: publish(through.models, name)) == 0  # type: ignore[misc]
    total = len(requests_of(proxy, lambda: discard_folder(through.models / "2")))
    monkeypatch.setattr(mirrored, "SETTLED_S", 0.0)
    for number in range(total):
        proxy.begin()
        if "2" not in listed(through.models):
            assert killed(proxy, -1, "", lambda: publish(through.models, "2")) == 0
        code = killed(proxy, number, "after", lambda: discard_folder(through.models / "2"))
        assert code == -signal.SIGKILL
        proxy.begin()
        whole_or_absent(bucket, tmp_path / str(number))
    discard_folder(through.models / "2")
    sweep(through.models)
    assert len(keys(through)) == 4, keys(through)


# ---------------------------------------------------------------- many writers


def race(bucket: str, rounds: int, place: Path) -> None:
    """Two threads here and a process of another machine publish the same names at the same moment."""
    here = Store.open(bucket)
    script = (
        "import sys; from penstock.store import Store\n"
        "from tests.contract.test_bucket import publish\n"
        "store = Store.open(sys.argv[1]); won = []\n"
        "for line in sys.stdin:\n"
        "    try:\n"
        "        publish(store.models, line.strip(), {'who': b'2' * 100}); print(1, flush=True)\n"
        "    except FileExistsError:\n"
        "        print(0, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, bucket],
        env={**os.environ, "PENSTOCK_CACHE": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    start = threading.Barrier(3)
    won: list[list[int]] = [[0, 0, 0] for _ in range(rounds)]

    def write(who: int) -> None:
        for name in range(rounds):
            start.wait()
            try:
                publish(here.models, str(name), {"who": str(who).encode() * 100})
                won[name][who] = 1
            except FileExistsError:
                pass

    threads = [threading.Thread(target=write, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for name in range(rounds):
        start.wait()
        print(name, file=process.stdin, flush=True)
        won[name][2] = int(process.stdout.readline())
    for thread in threads:
        thread.join()
    process.stdin.close()
    assert process.wait() == 0
    assert [sum(each) for each in won] == [1] * rounds
    for name, each in enumerate(won):
        assert content(fetched(here.models / str(name))) == {"who": str(each.index(1)).encode() * 100}
    assert len(keys(here)) == 2 * rounds  # a file and a marker each: the losers left nothing


def test_of_three_writers_for_one_version_exactly_one_wins(bucket: str, tmp_path: Path) -> None:
    race(bucket, 20, tmp_path / "other")


@pytest.mark.soak
def test_of_three_writers_for_one_version_exactly_one_wins_200_times(
    bucket: str, tmp_path: Path, figures: Callable[[dict[str, object]], None]
) -> None:
    began = time.monotonic()
    race(bucket, 200, tmp_path / "other")
    figures({"races": 200, "writers": 3, "winners each": 1, "seconds": round(time.monotonic() - began, 1)})


def test_the_sweep_spares_whoever_may_still_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.store import process

    server = mirrors[store.root].bucket
    mine, gone, abroad = process.myself(), f"{process.machine()}-1-7", "00000000-1-7"
    for who in (mine, gone, abroad):
        server.put(f"models/.data/1~{who}-abc/file", b"x")
    assert sweep(store.models) == []  # young: a request of it may be under way
    monkeypatch.setattr(mirrored, "SETTLED_S", 0.0)
    assert [path.name for path in sweep(store.models)] == [f"1~{gone}-abc"]
    monkeypatch.setattr(mirrored, "ABANDONED_S", 0.0)
    assert [path.name for path in sweep(store.models)] == [f"1~{abroad}-abc"]
    assert keys(store) == [f"models/.data/1~{mine}-abc/file"]


# ---------------------------------------------------------------- locks

HOLDER = """
import sys, signal
from pathlib import Path
from penstock.store import Store, lease, lock
lease.process.machine = lambda: sys.argv[2]
store = Store.open(sys.argv[1])
with lock(store.runs / "x" / ".lock"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(bucket: str, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process, of a machine with that name, that holds the lock of run x."""
    started: list[subprocess.Popen[str]] = []

    def start(machine: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, bucket, machine],
            env={**os.environ, "PENSTOCK_CACHE": str(tmp_path / machine)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_lock_is_held_against_other_machines_and_goes_with_a_dead_one(
    store: Store, holder: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.05)
    file = store.runs / "x" / ".lock"
    other = holder("other")
    with monkeypatch.context() as patience:
        patience.setattr(leases, "TTL_S", 1e6)  # it is seen to be renewed: nobody waits for it to run out
        with pytest.raises(Busy, match=str(other.pid)) as caught, lock(file, blocking=False):
            pass
    assert caught.value.pid == other.pid and lock_held(file)
    other.kill()
    other.wait()
    with lock(file, blocking=False):  # its machine is out of reach: only time tells
        assert lock_held(file)
    assert not lock_held(file)
    with lock(file, blocking=False):  # what was given back does not look held
        pass


def test_a_lock_of_a_dead_process_of_this_machine_is_free_at_once(
    store: Store, holder: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.store import process

    monkeypatch.setattr(leases, "TTL_S", 1e6)
    other = holder(process.machine())
    assert lock_held(store.runs / "x" / ".lock")
    other.kill()
    other.wait()
    with lock(store.runs / "x" / ".lock"):
        pass


def test_who_lost_its_lease_writes_nothing_more(bucket: str, store: Store, tmp_path: Path) -> None:
    publish(store.runs, "x", {"run.json": b"{}"})
    run = store.runs / "x"
    with lock(run / ".lock"):
        write_atomic(run / "attempts.json", b"mine")
        lease = leases.held[-1]
        # another machine saw it unchanged for as long as it lasts, and took it over
        server, key = lease.bucket, lease.key
        found = server.get(key)
        assert found is not None
        assert server.replace(key, leases.content("held").replace(b'"turn"', b'"taken"'), found[1])
        lease._renewed -= leases.TTL_S  # so long did this process not answer
        for write in (
            lambda: write_atomic(run / "attempts.json", b"stale"),
            lambda: publish(run / "checkpoints", "00000010"),
            lambda: push(run / "run.json"),
        ):
            with pytest.raises(StoreError, match="taken over by another process"):
                write()
        write_atomic(store.runs / "elsewhere", b"not its concern")
    assert current(run / "attempts.json") == b"mine" and listed(run / "checkpoints") == []
    assert lock_held(run / ".lock")  # the other one's: it was not given back


def test_a_lock_that_could_not_be_given_back_is_no_ones(
    bucket: str, through: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(leases, "TTL_S", 1e6)
    mirrors[through.root] = _mirror_again(through, bucket)
    with lock(through.runs / ".lock"):
        proxy.begin(lambda seen: "before")
    proxy.begin()
    with lock(through.runs / ".lock", blocking=False):
        pass


def test_a_blocking_lock_waits_its_turn_across_machines(
    bucket: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.01)
    script = (
        "import sys; from penstock.store import Store, current, lease, lock, write_atomic\n"
        "lease.LOOK_S = 0.01\n"
        "store = Store.open(sys.argv[1])\n"
        "for _ in range(10):\n"
        "    with lock(store.root / '.lock'):\n"
        "        write_atomic(store.root / 'n', str(int(current(store.root / 'n')) + 1).encode())\n"
    )
    write_atomic(store.root / "n", b"0")
    others = [
        subprocess.Popen(
            [sys.executable, "-c", script, bucket],
            env={**os.environ, "PENSTOCK_CACHE": str(tmp_path / str(i))},
        )
        for i in range(2)
    ]
    assert [other.wait() for other in others] == [0, 0]
    assert current(store.root / "n") == b"20"


# ---------------------------------------------------------------- what cannot be


def test_a_bucket_that_cannot_be_used_is_refused_in_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for url in ("s3://", "s3:///x", "s3://UPPER/x", "s3://bucket/a//b", "s3://bucket/../x", "s3://b/x?y"):
        with pytest.raises(StoreError, match=r"write s3://BUCKET/PREFIX"):
            Store.open(url)
    with pytest.raises(StoreError, match=r"no bucket 'nowhere' at http://127.*create it"):
        Store.open("s3://nowhere/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"http://127.0.0.1:9 does not answer.*AWS_ENDPOINT_URL"):
        Store.open("s3://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no address")
    with pytest.raises(StoreError, match=r"no address.*correct AWS_ENDPOINT_URL"):
        Store.open("s3://bucket/x")
    for place in ("s3:/bucket/x", "s3:bucket", "S3://bucket/x", "gs://bucket"):
        with pytest.raises(StoreError, match=r"only folders and s3://BUCKET/PREFIX can be stores"):
            Store.open(place)


def test_what_may_be_a_password_in_a_url_is_not_repeated(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for endpoint in ("http://me:hush@127.0.0.1:9", "http://me:hush@no address"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for place in ("s3://bucket/x", "s3://me:hush@bucket/x", "gs://me:hush@bucket"):
            with pytest.raises(StoreError) as said:
                Store.open(place)
            assert "hush" not in str(said.value)


def test_who_may_not_is_told_so(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal
    monkeypatch.setattr(proxy, "_forward", lambda request: answer)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with pytest.raises(StoreError, match=r"no permission \(list_objects_v2: AccessDenied\); check"):
        Store.open(bucket)


def test_a_server_that_ignores_conditions_is_refused(
    through: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = proxy._forward
    monkeypatch.setattr(
        proxy, "_forward", lambda request: forward(request.replace(b"If-None-Match", b"X-No"))
    )
    for write in (lambda: publish(through.models, "1"), lambda: lock(through.root / ".lock").__enter__()):
        with pytest.raises(StoreError, match="ignores If-None-Match"):
            write()
    assert keys(through) == []


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError, match=r"pip install 'penstock\[s3\]'"):
        Store.open("s3://bucket/x")


def test_without_credentials_the_settings_are_named(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match=r"no credentials; set AWS_ACCESS_KEY_ID"):
        Store.open(bucket)
