"""Where the endpoint listens."""

from __future__ import annotations

import errno
import ipaddress
import socket

from penstock.errors import PenstockError


def loopback(host: str) -> str:
    """The address to listen on; PenstockError unless it is this machine's own."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise PenstockError(
            f"--host {host!r} is not an IP address; 127.0.0.1 is this machine alone"
        ) from None
    if not local:
        raise PenstockError(
            f"--host {host} can be reached from other machines, and this version has no access keys yet; "
            f"use 127.0.0.1, behind a proxy that asks for credentials"
        )
    return address


def free_port(address: str, port: int) -> int:
    """`port`, or a free one for 0; PenstockError when another process listens there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "is in use" if taken else "cannot be used"
            raise PenstockError(f"port {port} {why}; choose another, or --port 0 for a free one") from None
        return int(probe.getsockname()[1])
