"""Jobs without a cluster: whose address, what a log loses when connections break, what other servers are."""

from __future__ import annotations

import itertools
import json
import platform
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock import head
from penstock.errors import PenstockError
from penstock.jobs.client import Dashboard, Job, Unreachable, find_address
from penstock.jobs.following import ending, follow
from penstock.jobs.submission import cause
from tests.command import Finished
from tests.heads import free_ports


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def job(
    status: str = "RUNNING", code: int | None = None, message: str = "", reserved: str = "", ours: bool = True
) -> Job:
    return Job("one", status, ("list",) if ours else None, "", message, code, 1.0, 2.0, reserved)


# ---------------------------------------------------------------- address


@pytest.mark.parametrize(
    ("given", "env", "found"),
    [
        ("http://a:8265/", {}, "http://a:8265"),
        ("https://a.b/ray", {"RAY_ADDRESS": "http://c:1"}, "https://a.b/ray"),
        (None, {"RAY_ADDRESS": "http://c:1"}, "http://c:1"),
        (None, {"RAY_ADDRESS": "h:6379", "RAY_API_SERVER_ADDRESS": "http://d:1"}, "http://d:1"),
    ],
)
def test_the_address_is_the_option_s_else_the_environment_s(
    given: str | None, env: dict[str, str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert find_address(given) == found


@pytest.mark.parametrize(
    ("env", "given", "says"),
    [
        ({}, None, "no cluster is named; pass --address http://HOST:8265"),
        ({"RAY_ADDRESS": "ray://h:10001"}, None, "RAY_ADDRESS ray://h:10001 is no dashboard"),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, None, "RAY_ADDRESS 10.0.0.1:6379 is no dashboard"),
        ({}, "h:8265", "--address h:8265 is no dashboard, and jobs go through it; pass --address http://"),
        ({}, "http://", "the URL in --address cannot be used"),
        ({}, "http://h:eight", "the URL in --address cannot be used"),
        ({}, "http://me:hush@h:8265", "the URL in --address cannot be used"),
    ],
)
def test_another_kind_of_address_is_said_in_one_line(
    env: dict[str, str], given: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PenstockError) as said:
        find_address(given)
    assert str(said.value).startswith(says) and "hush" not in str(said.value)


def test_jobs_takes_an_id_where_one_is_needed(cli: Callable[..., Finished]) -> None:
    assert "which one? penstock jobs list" in cli("jobs", "logs").error
    assert "takes no ID" in cli("jobs", "list", "one").error


# ---------------------------------------------------------------- log


class Breaking:
    """A job server whose connections break wherever `cuts` says, in characters; the log grows meanwhile."""

    def __init__(self, log: str, cuts: list[int], piece: int = 7) -> None:
        self.text, self.cuts, self.piece = log, cuts, piece
        self.connections = 0

    def tail(self, job: str) -> Iterator[str]:
        self.connections += 1
        end = self.cuts.pop(0) if self.cuts else len(self.text)
        for start in range(0, end, self.piece):
            yield self.text[start : min(start + self.piece, end)]
        if end < len(self.text) and end % 2:  # some break, some end as if all were well
            raise Unreachable("broke off")

    def log(self, job: str) -> str:
        return self.text

    def find(self, name: str) -> Job:
        return job("RUNNING" if self.cuts else "SUCCEEDED", 0)


def test_every_line_is_told_once_however_connections_break() -> None:
    draw = random.Random(0)
    for _ in range(200):
        log = "".join(f"line {i} {'é' * draw.randrange(9)}\n" for i in range(draw.randrange(30)))
        cuts = [draw.randrange(len(log) + 1) for _ in range(draw.randrange(5))]  # not in order: also back
        server = Breaking(log, list(cuts), piece=draw.randrange(1, 40))
        assert "".join(follow(server, "one", pause_s=0)) == log
        assert server.connections == len(cuts)  # the last of it comes from the log as a whole


def test_a_job_that_has_no_place_yet_says_what_it_waits_for() -> None:
    class Slow(Breaking):
        waits = ["resources."] * 3 + ["an environment"] * 2

        def find(self, name: str) -> Job:
            if not self.waits:
                return super().find(name)
            message = self.waits.pop(0)
            return job("PENDING", message=message, reserved="2 CPUs" if message == "resources." else "")

    said: list[str] = []
    server = Slow("done\n", [5])
    assert "".join(follow(server, "one", said.append, pause_s=0, pending_s=0)) == "done\n"
    assert said == [
        "job one is pending: resources; its command reserves 2 CPUs; penstock jobs stop one gives up",
        "job one is pending: an environment; penstock jobs stop one gives up",
    ]
    quick: list[str] = []
    Slow.waits = ["resources"] * 3
    list(follow(Slow("", []), "one", quick.append, pause_s=0))
    assert quick == []


def test_a_job_that_waits_for_its_place_is_not_waited_for_when_it_is_to_end() -> None:
    class Waiting(Breaking):
        def find(self, name: str) -> Job:
            return job("PENDING")

    server = Waiting("", [])
    assert ending(server, "one", 0.0, pending_s=0.0).status == "PENDING"
    with pytest.raises(PenstockError, match="job one is still PENDING after 0 s"):
        ending(server, "one", 0.0)


def test_a_connection_that_stays_lost_is_said_once_and_one_that_comes_back_is_not() -> None:
    class Away(Breaking):
        fails = 0

        def find(self, name: str) -> Job:
            if len(self.cuts) < 2 and self.fails:  # after the first connection
                self.fails -= 1
                raise Unreachable("no Ray dashboard answers")
            return super().find(name)

    for fails, times in ((0, 0), (1, 1), (5, 1)):
        said: list[str] = []
        server = Away("a line\n", [3, 7])  # an odd cut breaks the connection
        server.fails = fails
        assert "".join(follow(server, "one", said.append, pause_s=0)) == "a line\n"
        assert said == ["the connection to job one is lost; it is tried again for up to 300 s"] * times


def test_a_job_that_is_silent_for_longer_than_the_patience_survives_a_break(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count(0, 1000)  # seconds between any two looks at the clock
    clock = SimpleNamespace(monotonic=lambda: next(looks), sleep=lambda seconds: None)
    monkeypatch.setattr("penstock.jobs.following.time", clock)
    assert "".join(follow(Breaking("a line\n", [3]), "one", patience_s=500)) == "a line\n"


def test_a_server_that_stays_away_is_given_up_and_says_how_to_go_on() -> None:
    class Gone(Breaking):
        def find(self, name: str) -> Job:
            raise Unreachable("no Ray dashboard answers")

    with pytest.raises(Unreachable, match="penstock jobs logs one --follow"):
        list(follow(Gone("", []), "one", patience_s=0.05, pause_s=0.01))


def test_the_exit_code_is_the_job_s() -> None:
    codes = [job("SUCCEEDED", 0), job("FAILED", 2), job("FAILED", -9), job("FAILED"), job("STOPPED", 1)]
    assert [one.code for one in codes] == [0, 2, 137, 1, 130]
    assert job("PENDING").code == 0 and not job("PENDING").over


def test_the_cause_is_the_log_s_last_line_or_what_ray_says() -> None:
    assert cause(job("FAILED", 1), "a\npenstock: run 'x' failed\n\n") == "run 'x' failed"
    assert cause(job("FAILED", None, "No space left\n"), "Runtime env is setting up\n") == "No space left"
    missing = "sh: 1: exec: python: not found\n"
    assert "no `python` on its PATH" in cause(job("FAILED", 127), missing)
    assert cause(job("FAILED", 127, ours=False), missing) == missing.strip(), "it is not our command"


# ---------------------------------------------------------------- servers


@contextmanager
def web(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """A server with these answers, 404 for other paths; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path, (404, "<h1>not here</h1>"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *words: object) -> None:
            pass

    with listening(Handler) as url:
        yield url


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ray(ray: str, python: str, mode: str = "token") -> dict[str, tuple[int, str]]:
    return {
        "/api/version": (200, json.dumps({"ray_version": ray})),
        "/api/v0/cluster_metadata": (200, json.dumps({"data": {"pythonVersion": python}})),
        "/api/authentication_mode": (200, json.dumps({"authentication_mode": mode})),
    }


HERE = (version("ray"), platform.python_version())


def test_a_cluster_with_our_versions_is_taken_with_tokens_or_without() -> None:
    for mode in ("token", "disabled"):
        with web(ray(*HERE, mode)) as url:
            assert Dashboard(url).check() == (mode == "token")
    with web(ray(HERE[0], "3.11.99")) as url:  # the last number of Python may differ: the job runs there
        assert Dashboard(url).check()


@pytest.mark.parametrize(("versions"), [("2.40.0", HERE[1]), (HERE[0], "3.9.18")])
def test_other_versions_are_named_both(versions: tuple[str, str]) -> None:
    with web(ray(*versions)) as url, pytest.raises(PenstockError) as said:
        Dashboard(url).check()
    ran, ours = f"runs Ray {versions[0]} on Python {versions[1]}", f"is Ray {HERE[0]} on Python {HERE[1]}"
    assert ran in str(said.value) and ours in str(said.value)


@pytest.mark.parametrize("answers", [{}, {"/api/version": (200, "[1]")}, {"/api/version": (200, "{}")}])
def test_what_is_no_ray_dashboard_is_told_from_one(answers: dict[str, tuple[int, str]]) -> None:
    with web(answers) as url, pytest.raises(PenstockError, match="is not a Ray dashboard"):
        Dashboard(url).check()


@pytest.mark.parametrize("answer", [(404, "<h1>"), (404, "{}"), (200, "<h1>"), (200, '"a"'), (200, "{}")])
def test_jobs_of_what_is_no_ray_dashboard_are_none(answer: tuple[int, str]) -> None:
    with web({"/api/jobs/": answer, "/api/jobs/html": (200, "<h1>")}) as url:
        for ask in (
            Dashboard(url).jobs,
            lambda: Dashboard(url).find("one"),
            lambda: Dashboard(url).find("html"),
        ):
            with pytest.raises(PenstockError, match="is not a Ray dashboard"):
                ask()


def test_a_job_is_read_with_what_it_reserves() -> None:
    rows = [
        {"submission_id": "a", "type": "SUBMISSION", "metadata": {"penstock-reserved": "2 CPUs"}},
        {"submission_id": "b", "type": "SUBMISSION", "metadata": None},
    ]
    with web({"/api/jobs/": (200, json.dumps(rows))}) as url:
        assert [(one.id, one.reserved) for one in Dashboard(url).jobs()] == [("a", "2 CPUs"), ("b", "")]


def test_nobody_at_the_address_is_said_at_once() -> None:
    [port] = free_ports(1)
    with pytest.raises(Unreachable, match=f"no Ray dashboard answers at http://127.0.0.1:{port} "):
        Dashboard(f"http://127.0.0.1:{port}").check()
    with pytest.raises(PenstockError, match=f"no Ray cluster answers at RAY_ADDRESS=127.0.0.1:{port} "):
        head.demand(f"127.0.0.1:{port}")


def test_a_job_whose_submission_breaks_off_is_submitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection is cut after the server has read the request, so only the id can tell."""
    monkeypatch.setattr("penstock.jobs.client._PAUSES_S", (0.01,))
    started: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["submission_id"]
            if asked not in started:
                started.append(asked)
                return  # without an answer
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b"ValueError: Job with submission_id one already exists.")

        def log_message(self, *words: object) -> None:
            pass

    with listening(Handler) as url:
        Dashboard(url).submit({"submission_id": "one"})
    assert started == ["one"]


# ---------------------------------------------------------------- the head


@contextmanager
def table(answer: Callable[[dict[str, str]], Any]) -> Iterator[str]:
    """The one call of a head that is needed here: `answer(metadata)` is a dict, or a gRPC status."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    class Table(gcs_service_pb2_grpc.InternalKVGcsServiceServicer):  # type: ignore[misc,unused-ignore]
        def InternalKVGet(self, request: Any, context: Any) -> Any:
            found = answer(dict(context.invocation_metadata()))
            if not isinstance(found, dict):
                context.abort(found, "no")
            return gcs_service_pb2.InternalKVGetReply(value=json.dumps(found).encode())

    server = grpc.server(ThreadPoolExecutor(2))
    gcs_service_pb2_grpc.add_InternalKVGcsServiceServicer_to_server(Table(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_head_is_joined_with_our_versions_and_its_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import grpc

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    seen = itertools.count()

    def answer(metadata: dict[str, str]) -> Any:
        next(seen)
        if metadata.get("authorization") != "Bearer right":
            return grpc.StatusCode.UNAUTHENTICATED
        return {"ray_version": HERE[0], "python_version": HERE[1]}

    with table(answer) as address:
        head.demand(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        with pytest.raises(PenstockError, match="refuses the token of RAY_AUTH_TOKEN; ") as said:
            head.demand(address)
        assert "wrong" not in str(said.value)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nonexistent/token")
        named = "none was found; put it into RAY_AUTH_TOKEN or '/nonexistent/token', the file that RAY_AUTH_"
        with pytest.raises(PenstockError, match=f"{named}TOKEN_PATH names"):
            head.demand(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with pytest.raises(PenstockError, match="RAY_AUTH_MODE=disabled shows none"):
            head.demand(address)
    assert next(seen) == 4
    with table(lambda metadata: {"ray_version": "2.40.0", "python_version": "3.9.1"}) as address:
        with pytest.raises(PenstockError, match=r"runs Ray 2\.40\.0 on Python 3\.9\.1, and this is Ray"):
            head.demand(address)


def test_what_is_no_head_is_told_from_one() -> None:
    with web({}) as url, pytest.raises(PenstockError, match="is not the head of a Ray cluster"):
        head.demand(url.removeprefix("http://"))
    with pytest.raises(PenstockError, match="is a dashboard, which takes jobs: penstock submit"):
        head.demand("http://127.0.0.1:8265")
    with pytest.raises(PenstockError, match="names no cluster; write HOST:6379"):
        head.demand("somewhere")


@pytest.mark.parametrize("variable", [False, True])
def test_a_token_is_asked_for_at_the_place_where_it_is_looked_for(
    variable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    place = "RAY_AUTH_TOKEN or ~/.ray/auth_token"
    if variable:
        file = tmp_path / "mine"
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
        place = f"RAY_AUTH_TOKEN or {str(file)!r}, the file that RAY_AUTH_TOKEN_PATH names"
    with web({"/api/jobs/": (401, "no")}) as url:
        with pytest.raises(PenstockError) as said:
            Dashboard(url).jobs()
        assert str(said.value).endswith(f"asks for a token and none was found; put it into {place}")
        file.parent.mkdir(exist_ok=True)
        file.write_text("hush")
        with pytest.raises(PenstockError) as said:
            Dashboard(url).jobs()
        assert str(said.value).endswith(f"refuses the token of {file}; put its own into {place}")
