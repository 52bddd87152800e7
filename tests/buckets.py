"""A real S3 API on loopback (moto's server, in a process of its own), and a proxy that spoils requests to it.

`python -m tests.buckets` is the server; it prints its port.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "penstock",
    "AWS_SECRET_ACCESS_KEY": "penstock",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def serve() -> None:
    """S3 does a conditional write in one step; moto looks first and writes then, in any number of threads."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *args: Any, **more: Any) -> None: ...

    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # outside of the turn: a client that is killed in the middle of its request must hold up nobody
        chunked = environ.get("wsgi.input_terminated", False)
        body = environ["wsgi.input"].read(-1 if chunked else int(environ.get("CONTENT_LENGTH") or 0))
        with turn:
            return list(app({**environ, "wsgi.input": io.BytesIO(body)}, start))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an S3 server that is empty."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.buckets"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3 server for the whole session."""
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store in a bucket of its own; the environment leads to it, with a mirror of the
    test's own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))
    return new_bucket()


def new_bucket() -> str:
    from penstock.store.client import connect

    name = f"b-{uuid.uuid4().hex[:12]}"
    connect().create_bucket(Bucket=name)
    return f"s3://{name}/store"


@contextmanager
def another_machine(cache: Path) -> Iterator[None]:
    """Stores that are opened inside have a mirror of their own, below `cache`."""
    before = os.environ["PENSTOCK_CACHE"]
    os.environ["PENSTOCK_CACHE"] = str(cache)
    try:
        yield
    finally:
        os.environ["PENSTOCK_CACHE"] = before


# ---------------------------------------------------------------- requests that go wrong

Spoil = Callable[[int], str]
"""What becomes of request number n: "pass"; "before": it never reaches the server; "after": the server has
done it, the answer is lost; "half": so is half of the answer; "kill before", "kill after": as these, and
the client is killed."""


class Proxy:
    """Stands in front of `url`, counts requests and spoils some. `url`: where it listens."""

    def __init__(self, url: str) -> None:
        self.seen: list[str] = []
        self.spoil: Spoil = lambda number: "pass"
        self.victim = 0
        host, port = url.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._listens = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._turn = threading.Lock()
        self.url = f"http://127.0.0.1:{self._listens.getsockname()[1]}"
        self._accepts = threading.Thread(target=self._accept, daemon=True)
        self._accepts.start()

    def begin(self, spoil: Spoil = lambda number: "pass", victim: int = 0) -> None:
        """Counts from 0 again."""
        with self._turn:
            self.seen, self.spoil, self.victim = [], spoil, victim

    def close(self) -> None:
        # closed alone, its thread goes on to wait, and takes the next socket with its number for its own
        self._listens.shutdown(socket.SHUT_RDWR)
        self._accepts.join()
        self._listens.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listens.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), client.makefile("rb") as incoming:
            while head := _head(incoming):
                if b"100-continue" in head.lower():
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = incoming.read(_length(head))
                with self._turn:
                    number = len(self.seen)
                    self.seen.append(head.split(b" HTTP", 1)[0].decode())
                    fate = self.spoil(number)
                if fate.endswith("before"):
                    self._kill(fate)
                    return
                answer = self._forward(head + body)
                if fate.endswith("after"):
                    self._kill(fate)
                    return
                if fate == "half":
                    client.sendall(answer[: len(answer) // 2])
                    return
                client.sendall(answer)

    def _kill(self, fate: str) -> None:
        if fate.startswith("kill") and self.victim:
            os.kill(self.victim, signal.SIGKILL)

    def _forward(self, request: bytes) -> bytes:
        """One connection a request: the server ends it, so that all of the answer has been read."""
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [
            line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))
        ]
        with socket.create_connection(self._server) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            parts = []
            while part := server.recv(1 << 16):
                parts.append(part)
        return b"".join(parts).replace(b"Connection: close\r\n", b"", 1)


def _head(incoming: Any) -> bytes:
    lines = []
    while (line := incoming.readline()) not in (b"\r\n", b""):
        lines.append(line)
    return b"".join(lines) + b"\r\n" if lines else b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


if __name__ == "__main__":
    serve()
