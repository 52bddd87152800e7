"""Where the endpoint listens."""

from __future__ import annotations

import errno
import ipaddress
import socket

from penstock.errors import PenstockError


def address_of(host: str, keys: bool, setting: str = "--host") -> tuple[str, bool]:
    """The address to listen on, and whether it is this machine's own. PenstockError, naming the `setting`,
    when it is not, and there are no access `keys`."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise PenstockError(
            f"{setting} {host!r} is not an IP address; 127.0.0.1 is this machine alone"
        ) from None
    if not local and not keys:
        raise PenstockError(
            f"{setting} {host} can be reached from other machines, and there are no access keys; "
            f"penstock keys add"
        )
    return address, local


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
