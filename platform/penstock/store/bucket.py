"""A bucket of an S3-compatible server: the few requests a store makes, and their errors in one line."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from penstock.errors import StoreError
from penstock.store.client import HASTY, MISSING, PATIENT, REFUSED, code_of, connect, explained, without_user

URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9_=@+.-]+)*)/?")
TOGETHER = 8
"""Files that are uploaded or downloaded at the same time."""
PART = 8 << 20  # bytes; longer files go in parts of this size
PROBE = ".probe"
"""An object that is written twice."""
READS = 3  # times that an answer may break off
MOST = 1000  # keys that one request can delete
CONFLICTS = 20  # times that two conditional writes may be in each other's way


@dataclass(frozen=True)
class Object:
    """One entry of a listing. `age_s`: since it was written, by the server's own clock."""

    key: str
    etag: str
    age_s: float


class Bucket:
    """`s3://<name>/<prefix>`; keys are relative to the prefix. Every method raises StoreError in one line.

    A conditional write carries a token in the object's metadata: where a lost answer was asked for again and
    the server refuses the second, the token tells that it was the first that won.
    """

    def __init__(self, url: str) -> None:
        found = URL.fullmatch(url)
        if found is None or "/.." in url or "/./" in url:
            raise StoreError(
                f"store {without_user(url)!r}: write s3://BUCKET/PREFIX, of letters, digits, '.', '_' and '-'"
            )
        self.name, self.prefix = found["bucket"], found["prefix"].strip("/")
        self.url = f"s3://{self.name}/{self.prefix}".rstrip("/")
        self._client: tuple[int, Any] | None = None
        self._attempts = HASTY
        self._conditions = False
        self._turn = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    # ---------------------------------------------------------------- one object

    def get(self, key: str) -> tuple[bytes, str] | None:
        """(content, ETag), None where there is none."""
        return self._read(key, lambda body: body.read())

    def put(self, key: str, data: bytes) -> None:
        """`key` holds `data`, whatever it held before."""
        self._ask("put_object", Key=key, Body=data)

    def create(self, key: str, data: bytes) -> str | None:
        """The new object's ETag, None where there is one already: of any number of writers one wins."""
        return self._conditional(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """The new ETag, None where the object is no longer the one with `etag`."""
        return self._conditional(key, data, IfMatch=etag)

    def delete(self, key: str) -> None:
        """Harmless where there is none."""
        self._ask("delete_object", Key=key)

    def upload(self, key: str, path: Path) -> None:
        """The file's content, in parts where it is long."""
        if path.stat().st_size <= PART:
            self.put(key, path.read_bytes())
            return
        with self._explained("put_object"), path.open("rb") as file:
            self.client.upload_fileobj(file, self.name, self._full(key))

    def download(self, key: str, path: Path) -> None:
        """Into the file. FileNotFoundError where there is no such object."""

        def write(body: Any) -> None:
            with path.open("wb") as file:
                for chunk in body.iter_chunks(1 << 20):
                    file.write(chunk)

        if self._read(key, write) is None:
            raise FileNotFoundError(2, "no such object", f"{self.url}/{key}")

    def _read(self, key: str, take: Callable[[Any], Any]) -> tuple[Any, str] | None:
        """(what `take` makes of the body, ETag), None where there is no object. botocore asks again for an
        answer that does not come, not for one that breaks off."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for left in reversed(range(READS)):
            found = self._ask("get_object", Key=key)
            if found is None:
                return None
            with self._explained("get_object"):
                try:
                    return take(found["Body"]), found["ETag"]
                except (HTTPClientError, IncompleteReadError):
                    if not left:
                        raise
        raise AssertionError("unreachable")

    # ---------------------------------------------------------------- many

    def entries(self, prefix: str, after: str = "") -> Iterator[Object]:
        """Everything below `prefix`, by key, from behind `after` on."""
        for page, now in self._pages(prefix, StartAfter=self._full(after) if after else ""):
            for entry in page.get("Contents", ()):
                age_s = (now - entry["LastModified"]).total_seconds()
                yield Object(self._short(entry["Key"]), entry["ETag"].strip('"'), age_s)

    def folders(self, prefix: str) -> list[str]:
        """The names that go on with a slash right below `prefix`, which ends with one."""
        return [
            self._short(entry["Prefix"])[len(prefix) : -1]
            for page, _ in self._pages(prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        ]

    def clear(self, prefix: str) -> None:
        """Deletes everything below `prefix`."""
        keys = [entry.key for entry in self.entries(prefix)]
        for start in range(0, len(keys), MOST):
            batch = [{"Key": self._full(key)} for key in keys[start : start + MOST]]
            with self._explained("delete_objects"):
                self.client.delete_objects(Bucket=self.name, Delete={"Objects": batch, "Quiet": True})

    def each(self, work: Callable[..., None], jobs: Iterable[tuple[Any, ...]]) -> None:
        """`work(*job)` for every job, TOGETHER at a time; raises what the first failure raised."""
        with ThreadPoolExecutor(TOGETHER, "bucket") as pool:
            for done in [pool.submit(work, *job) for job in jobs]:
                done.result()

    def arrow_place(self, key: str) -> tuple[str, Any]:
        """(path, file system) of `key` as pyarrow has them."""
        from pyarrow.fs import S3FileSystem

        scheme, _, host = self.endpoint.partition("://")
        region = self.client.meta.region_name
        return f"{self.name}/{self._full(key)}", S3FileSystem(
            scheme=scheme, endpoint_override=host, region=region
        )

    def demand_conditions(self) -> None:
        """StoreError when the server does not know conditional writes: nothing here would hold."""
        if not self._conditions and self.create(PROBE, b"") and self.create(PROBE, b""):
            raise StoreError(
                f"store {self.url}: {without_user(self.endpoint)} ignores If-None-Match, so that two writers "
                "may win; use a server that knows conditional writes"
            )
        self._conditions = True

    def check(self) -> None:
        """StoreError unless the bucket answers, which it has some seconds for; what has answered once is
        given a minute from now on, as a server that starts again may need."""
        self._ask("list_objects_v2", MaxKeys=1)
        with self._turn:
            self._attempts, self._client = PATIENT, None

    # ---------------------------------------------------------------- requests

    @property
    def client(self) -> Any:
        """boto3's, one for each process: connections do not survive a fork."""
        with self._turn:
            if self._client is None or self._client[0] != os.getpid():
                self._client = (os.getpid(), connect(self._attempts))
            return self._client[1]

    def _forked(self) -> None:
        self._turn, self._client = threading.Lock(), None

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _short(self, key: str) -> str:
        return key[len(self.prefix) + 1 :] if self.prefix else key

    def _ask(self, operation: str, **options: Any) -> Any:
        """The answer, None for an object that is not there."""
        if "Key" in options:
            options["Key"] = self._full(options["Key"])
        from botocore.exceptions import ClientError

        with self._explained(operation):
            try:
                return getattr(self.client, operation)(Bucket=self.name, **options)
            except ClientError as error:
                if code_of(error) in MISSING and "Key" in options:
                    return None
                raise

    def _conditional(self, key: str, data: bytes, **condition: str) -> str | None:
        from botocore.exceptions import ClientError

        token, full = uuid.uuid4().hex, self._full(key)
        with self._explained("put_object"):
            for trial in range(CONFLICTS):
                try:
                    made = self.client.put_object(
                        Bucket=self.name, Key=full, Body=data, Metadata={"token": token}, **condition
                    )
                    return str(made["ETag"])
                except ClientError as error:
                    if code_of(error) == "ConditionalRequestConflict" and trial + 1 < CONFLICTS:
                        time.sleep(
                            0.02 * (trial + 1)
                        )  # two at the same moment: the server asks for another try
                    elif code_of(error) in (*REFUSED, *MISSING):
                        return self._mine(full, token)
                    else:
                        raise
        raise AssertionError("unreachable")

    def _mine(self, full: str, token: str) -> str | None:
        """The ETag of what is there, if it was this writer that put it there."""
        from botocore.exceptions import ClientError

        try:
            found = self.client.head_object(Bucket=self.name, Key=full)
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        return str(found["ETag"]) if found["Metadata"].get("token") == token else None

    def _pages(self, prefix: str, **options: str) -> Iterator[tuple[Any, datetime]]:
        given = {name: value for name, value in options.items() if value}
        while True:
            page = self._ask("list_objects_v2", Prefix=self._full(prefix), **given)
            yield page, parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            if not page.get("IsTruncated"):
                return
            given["ContinuationToken"] = page["NextContinuationToken"]

    def _explained(self, operation: str) -> AbstractContextManager[None]:
        return explained(self.url, operation, lambda: without_user(self.endpoint))

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return str(self.client.meta.endpoint_url)
