"""The job server of a cluster, its dashboard, through the REST interface.

Ray's own client waits without end for a server that does not answer, says little about tokens, and has to
import all of Ray first.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from penstock import head
from penstock.errors import PenstockError, nearest

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
COMMAND = "penstock"
"""The key of a job's metadata that holds its words, as JSON."""
RESERVED = "penstock-reserved"
"""The key that holds what is reserved for its command: Ray takes these numbers and never tells them."""
_LOG_BYTES = 256 * 1024**2
_PAUSES_S = (0.5, 2.0, 5.0)
_CHUNK_BYTES = 64 * 1024**2  # Ray sends up to ten lines at once, however long they are

T = TypeVar("T", dict[str, Any], list[Any])


class Unreachable(PenstockError):
    """Nobody answers at the address, or no longer."""


@dataclass(frozen=True)
class Job:
    """What the cluster knows about a job. `exit_code`: of its command, once that has ended by itself."""

    id: str
    status: str
    words: tuple[str, ...] | None  # what was asked of penstock; None: the job is somebody else's
    entrypoint: str
    message: str
    exit_code: int | None
    started: float  # seconds since the epoch; 0: not yet
    ended: float
    reserved: str  # such as "2 CPUs"; "": nothing, or the job is somebody else's

    @property
    def over(self) -> bool:
        return self.status in ENDED

    @property
    def code(self) -> int:
        """What to exit with: the command's code, as a shell would say it; 130 for a job that was stopped."""
        if self.status == "STOPPED":
            return 130
        if self.exit_code is None:
            return 0 if self.status != "FAILED" else 1
        return self.exit_code if self.exit_code >= 0 else 128 - self.exit_code


def find_address(given: str | None) -> str:
    """The dashboard's URL: `given`, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS; PenstockError where there
    is none, or another kind of address."""
    named = {"--address": given or ""}
    named |= {name: os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    for name, value in named.items():
        if not value:
            continue
        if not value.startswith(("http://", "https://")):
            raise PenstockError(
                f"{name} {value} is no dashboard, and jobs go through it; pass --address http://HOST:8265"
            )
        try:
            parts = urlsplit(value)
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username is not None:
            # what is before an @ may be a password, so it is not repeated
            raise PenstockError(f"the URL in {name} cannot be used; write http://HOST:8265, without a user")
        return value.rstrip("/")
    raise PenstockError("no cluster is named; pass --address http://HOST:8265, or set RAY_ADDRESS")


class Dashboard:
    """A connection to the job server at `address`, a URL. PenstockError, from every method, in one line:
    nobody there (Unreachable), a token missing or wrong, not Ray, a request that is refused."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.local = urlsplit(address).hostname in LOOPBACK
        token = head.find_token()
        self._token = token
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=address,
            headers=self._headers,
            timeout=httpx.Timeout(60, connect=head.CONNECT_S),
            # a proxy that the environment names is for the world outside, not for this machine
            trust_env=not self.local,
        )

    def check(self) -> bool:
        """Whether the cluster asks for tokens. PenstockError where its Ray or Python do not go with ours."""
        seen = self._json("/api/version", dict)
        if "ray_version" not in seen:
            raise self._stranger()
        data = self._json("/api/v0/cluster_metadata", dict).get("data") or {}
        head.demand_versions(self.address, str(seen["ray_version"]), str(data.get("pythonVersion")), 2)
        mode = self._json("/api/authentication_mode", dict)
        return bool(mode.get("authentication_mode") == "token")

    def has(self, package: str) -> bool:
        """Whether the cluster holds the package; if so, it is kept for the next ten minutes."""
        return self._send("GET", f"/api/packages/gcs/{package}", also=(404,)).status_code == 200

    def upload(self, package: str, data: bytes) -> None:
        self._send("PUT", f"/api/packages/gcs/{package}", content=data)

    def submit(self, request: Mapping[str, Any]) -> None:
        """Starts a job; harmless where one of that id is there already, which then stays as it is.

        Tried again when the connection breaks: the server may or may not have heard of it.
        """
        for pause_s in (*_PAUSES_S, 0):
            try:
                answer = self._send("POST", "/api/jobs/", also=(400,), json=dict(request))
                break
            except Unreachable:
                if not pause_s:
                    raise
                time.sleep(pause_s)
        if answer.status_code == 400 and "already exists" not in answer.text:
            raise self._refused(answer)

    def job(self, job: str) -> Job | None:
        """The job of that id; None where there is none."""
        answer = self._send("GET", f"/api/jobs/{quote(job, safe='')}", also=(404,))
        return None if answer.status_code == 404 else _job(self._read(answer, dict))

    def find(self, job: str) -> Job:
        """The job of that id; PenstockError names the nearest where there is none."""
        found = self.job(job)
        if found is None:
            raise PenstockError(
                f"no job {job!r} at {self.address}{nearest(job, [j.id for j in self.jobs()])}"
            )
        return found

    def jobs(self) -> list[Job]:
        """All jobs that were submitted, oldest first; drivers that came otherwise are left out."""
        found = [_job(row) for row in self._json("/api/jobs/", list) if row.get("type") == "SUBMISSION"]
        return sorted(found, key=lambda job: (job.started, job.id))

    def stop(self, job: str) -> None:
        """Asks the job to end; it has a minute for that."""
        self._send("POST", f"/api/jobs/{quote(job, safe='')}/stop")

    def log(self, job: str) -> str:
        """All that the job has printed so far."""
        with self._http.stream("GET", f"/api/jobs/{quote(job, safe='')}/logs") as answer:
            read = bytearray()
            for part in answer.iter_bytes():
                read += part
                if len(read) > _LOG_BYTES:
                    raise PenstockError(
                        f"the log of {job} is longer than {_LOG_BYTES >> 20} MiB; add --follow"
                    )
        if answer.status_code != 200:
            raise self._refused(answer, bytes(read[:2000]).decode(errors="replace"))
        return str(json.loads(bytes(read)).get("logs") or "")

    def tail(self, job: str) -> Iterator[str]:
        """What the job has printed, from its start, and then what it prints, until it is over or the
        connection is (Unreachable, or an end like any other)."""
        with asyncio.Runner() as runner:
            pieces = self._pieces(job)

            async def piece() -> str | None:
                return await anext(pieces, None)

            async def close() -> None:
                await pieces.aclose()

            try:
                while (text := runner.run(piece())) is not None:
                    yield text
            finally:
                runner.run(close())

    async def _pieces(self, job: str) -> AsyncGenerator[str, None]:
        import aiohttp

        path = f"{self.address}/api/jobs/{quote(job, safe='')}/logs/tail"
        try:
            async with aiohttp.ClientSession(headers=self._headers, trust_env=not self.local) as session:
                # without the heartbeat a connection that is cut without a word would be waited on for ever.
                # It ends with the session: a closing handshake waits for as long as the job prints
                socket = await session.ws_connect(path, heartbeat=20, max_msg_size=_CHUNK_BYTES)
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        yield message.data
                if socket.close_code != aiohttp.WSCloseCode.OK:
                    raise Unreachable(f"{self.address} broke off (code {socket.close_code})")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self.address} broke off: {_first(error)}") from None

    def _json(self, path: str, kind: type[T]) -> T:
        return self._read(self._send("GET", path, also=(404, 405)), kind)

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            found = answer.json() if answer.status_code == 200 else None
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise self._stranger()
        return found

    def _send(self, method: str, path: str, also: tuple[int, ...] = (), **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise Unreachable(
                f"no Ray dashboard answers at {self.address} ({_first(error)}); "
                f"start the cluster, or name another with --address"
            ) from None
        if answer.status_code not in (200, *also):
            raise self._refused(answer)
        return answer

    def _refused(self, answer: httpx.Response, said: str | None = None) -> PenstockError:
        text = answer.text if said is None else said
        if answer.status_code == 401:
            return head.wrong_token(self.address) if self._token else head.missing_token(self.address)
        if answer.status_code == 403:
            return head.wrong_token(self.address)
        if answer.status_code >= 500 and "Traceback" not in text:
            return Unreachable(f"{self.address} answered {answer.status_code}; is its job server well?")
        last = (text.strip().splitlines() or [""])[-1][:300]
        return PenstockError(f"{self.address} refused ({answer.status_code}): {last}")

    def _stranger(self) -> PenstockError:
        return PenstockError(
            f"what answers at {self.address} is not a Ray dashboard; its port is 8265 unless told otherwise"
        )


def _job(row: Mapping[str, Any]) -> Job:
    metadata = row.get("metadata") or {}
    try:
        words = tuple(json.loads(metadata[COMMAND]))
    except (KeyError, ValueError, TypeError):
        words = None
    return Job(
        id=str(row.get("submission_id") or row.get("job_id") or ""),
        status=str(row.get("status")),
        words=words,
        entrypoint=str(row.get("entrypoint") or ""),
        message=str(row.get("message") or ""),
        exit_code=row.get("driver_exit_code"),
        started=(row.get("start_time") or 0) / 1000,
        ended=(row.get("end_time") or 0) / 1000,
        reserved=str(metadata.get(RESERVED) or ""),
    )


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160] or type(error).__name__
