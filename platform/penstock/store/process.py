"""Who a process is, for others of the same machine: to tell a dead writer from one that lives."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import uuid
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process has that number now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def myself() -> str:
    """`<machine>-<pid>-<start>`: no other process, before or after a restart, has the same."""
    return f"{machine()}-{os.getpid()}-{started(os.getpid())}"


def here(who: str) -> bool:
    """Whether `who` (as `myself` says it) was or is a process of this machine."""
    return who.partition("-")[0] == machine()


def dead(who: str) -> bool:
    """Whether `who` was a process of this machine and is gone. False for one of another machine: nobody here
    can know."""
    _, pid, start = who.split("-")
    return here(who) and (not alive(int(pid)) or started(int(pid)) != start)


@functools.cache
def machine() -> str:
    """8 hex digits for this boot of this machine; another container on it has others, as its processes have
    numbers of their own."""
    try:
        facts = [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    except OSError:
        facts = [str(uuid.getnode())]
    return hashlib.sha256("\n".join([*facts, socket.gethostname()]).encode()).hexdigest()[:8]


def started(pid: int) -> str:
    """When the process began, in ticks since the boot; "0" where the system does not say."""
    try:
        # the name in parentheses may hold blanks
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
