"""What is right on this machine, what is not, and what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from penstock import catalog, clusterfile, head
from penstock.errors import PenstockError
from penstock.store import Store, discard_file, write_atomic

PINNED = {"ray": "2.60", "torch": "2.11", "torchvision": "0.26", "torchaudio": "2.11"}
"""The versions that fit together; others may differ from what was tested."""
FREE_BYTES = 5 * 1024**3
MEMORY_BYTES = 4 * 1024**3
PORT = 8000


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy`: what to do where it is not `ok`."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def examine(store: str | Path | None = None) -> list[Finding]:
    """Everything a run needs, looked at without starting anything."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        python,
        packages,
        accelerator,
        machine,
        lambda: places(store),
        token,
        cluster,
        port,
        workloads,
    ]
    return [finding for look in looks for finding in look()]


def examine_cluster(path: Path) -> list[Finding]:
    """A cluster.yaml, looked at without starting anything. ConfigError for one that `ray up` would refuse."""
    config = clusterfile.read(path)
    remedy = 'eval "$(python -m penstock.cluster)" && ray start …, as in the cluster.yaml of the repository'
    wrong = [Finding(str(path), False, what, remedy) for what in clusterfile.complaints(config)]
    return wrong or [Finding(str(path), True, clusterfile.summary(config))]


def python() -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding("Python", ok, sys.version.split()[0], "use Python 3.11 or newer")


def packages() -> Iterator[Finding]:
    for name, pinned in PINNED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        ok = found == pinned or found.startswith(f"{pinned}.")
        yield Finding(
            name, ok, found, f"pip install '{name}=={pinned}.*' --constraint deploy/constraints.txt"
        )


def accelerator() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        return  # said above
    if torch.cuda.is_available():
        yield Finding("GPU", True, f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    elif Path("/proc/driver/nvidia/version").exists():
        yield Finding("GPU", False, "a driver, but torch sees none", "update the driver to one for CUDA 13")
    else:
        yield Finding("GPU", True, "none; everything runs on the CPU")


def machine() -> Iterator[Finding]:
    import psutil

    yield Finding("CPU cores", True, str(len(os.sched_getaffinity(0))))
    free = psutil.virtual_memory().available
    yield Finding(
        "memory", free >= MEMORY_BYTES, f"{free / 2**30:.1f} GiB free", "4 GiB are needed; end something"
    )
    temporary = tempfile.gettempdir()
    # Ray's sockets lie about 70 characters deeper, and a socket's path has at most 107
    yield Finding(
        "temporary folder", len(temporary) <= 36, temporary, "its path is too long: set TMPDIR=/tmp"
    )


def places(store: str | Path | None) -> Iterator[Finding]:
    try:
        opened = Store.open(store)
        root = opened.root
        probe = root / "runs" / ".doctor"
        write_atomic(probe, b"")
        discard_file(probe)
        yield Finding("store", True, opened.url)
    except PenstockError as error:
        remedy = "name a folder or s3://BUCKET/PREFIX with --store or PENSTOCK_STORE"
        yield Finding("store", False, str(error), remedy)
        return
    for what, place in (("disk of the store", root), ("disk for Ray", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        yield Finding(
            what, free >= FREE_BYTES, f"{free / 2**30:.1f} GiB free", f"free 5 GiB on the disk of {place}"
        )


def token() -> Iterator[Finding]:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        remedy = "unset RAY_AUTH_MODE: whoever reaches Ray's ports can run code"
        yield Finding("Ray's token", False, f"RAY_AUTH_MODE={mode}", remedy)
        return
    path = head.token_path()
    if os.environ.get("RAY_AUTH_TOKEN"):
        yield Finding("Ray's token", True, "in RAY_AUTH_TOKEN")
    elif not path.exists():
        yield Finding("Ray's token", True, "will be made, readable by you alone")
    else:
        private = not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        yield Finding("Ray's token", private, f"{path}", f"others can read it: chmod 600 {path}")


def cluster() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        yield Finding("Ray", True, "a local one is started when needed (RAY_ADDRESS names none)")
        return
    try:
        if address not in ("auto", "local"):
            head.demand(address)
        yield Finding("Ray", True, f"RAY_ADDRESS={address}")
    except PenstockError as error:
        found, _, remedy = str(error).rpartition("; ")
        yield Finding("Ray", False, found, remedy)


def port() -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
            yield Finding(f"port {PORT}", True, "free")
        except OSError:
            yield Finding(f"port {PORT}", False, "in use", f"penstock serve --port {PORT + 1}")


def workloads() -> Iterator[Finding]:
    installed = catalog.installed()
    if not installed:
        yield Finding(
            "workloads", False, "none", "pip install --editable . in the checkout, or `penstock new NAME`"
        )
    for name, point in installed.items():
        try:
            catalog.find(name)
            yield Finding(f"workload {name}", True, point.value)
        except PenstockError as error:
            yield Finding(f"workload {name}", False, str(error), "install or correct its package")
