"""The head of a cluster, asked before Ray is: Ray tries for 20 s and more before it gives up, and then says
neither that a token is wrong nor which one it used."""

from __future__ import annotations

import json
import os
import platform
import socket
from importlib.metadata import version
from pathlib import Path

from penstock.errors import PenstockError

CONNECT_S = 5.0
_ANSWER_S = 10.0
TOKEN = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
"""Where Ray and we look for the token, in this order."""


def token_path() -> Path:
    """The file of the token; it need not exist."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def find_token() -> str:
    """The token of this user; empty where there is none. PenstockError when its file cannot be read."""
    given = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    path = token_path()
    try:
        return given or path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise PenstockError(f"cannot read Ray's token {str(path)!r}: {error}") from None


def token_source() -> str:
    """Which place the token comes from, for messages; never the token."""
    return "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN", "").strip() else str(token_path())


def _places() -> str:
    """Where to put a token, for messages."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = f"{str(token_path())!r}, the file that RAY_AUTH_TOKEN_PATH names" if named else "~/.ray/auth_token"
    return f"RAY_AUTH_TOKEN or {file}"


def missing_token(where: str) -> PenstockError:
    return PenstockError(
        f"the cluster at {where} asks for a token and none was found; put it into {_places()}"
    )


def wrong_token(where: str) -> PenstockError:
    return PenstockError(
        f"the cluster at {where} refuses the token of {token_source()}; put its own into {_places()}"
    )


def demand_versions(where: str, ray: str, python: str, numbers: int) -> None:
    """PenstockError unless the cluster runs our Ray, and our Python in its first `numbers` numbers."""
    ours = (version("ray"), platform.python_version())
    if ray == ours[0] and python.split(".")[:numbers] == ours[1].split(".")[:numbers]:
        return
    raise PenstockError(
        f"the cluster at {where} runs Ray {ray} on Python {python}, and this is Ray {ours[0]} on Python "
        f"{ours[1]}; install the cluster's versions here, or ours there"
    )


def demand(address: str) -> None:
    """PenstockError, within seconds, when the cluster whose RAY_ADDRESS is `address` (HOST:PORT or
    ray://HOST:PORT) cannot be joined: nobody there, no token or the wrong one, other versions."""
    if address.startswith(("http://", "https://")):
        raise PenstockError(
            f"RAY_ADDRESS={address} is a dashboard, which takes jobs: penstock submit -- VERB …; "
            f"to work on the cluster from here, set RAY_ADDRESS=HOST:6379"
        )
    host, _, number = address.removeprefix("ray://").rpartition(":")
    if not host or not number.isdecimal():
        raise PenstockError(f"RAY_ADDRESS={address} names no cluster; write HOST:6379, or unset it")
    try:
        socket.create_connection((host.strip("[]"), int(number)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise PenstockError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({getattr(error, 'strerror', 0) or error}); "
            f"start it, or unset RAY_ADDRESS for a local one"
        ) from None
    if not address.startswith("ray://") and os.environ.get("RAY_USE_TLS", "0") != "1":
        _ask(f"RAY_ADDRESS={address}", f"{host}:{number}")


def _ask(where: str, address: str) -> None:
    """One look into the head's own table, as Ray does it, with the token in hand."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    mode = os.environ.get("RAY_AUTH_MODE", "token")  # as ensure_ray sets it
    token = find_token() if mode.lower() == "token" else ""
    wanted = gcs_service_pb2.InternalKVGetRequest(namespace=b"cluster", key=b"CLUSTER_METADATA")
    header = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        table = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
        try:
            found = json.loads(table.InternalKVGet(wanted, timeout=_ANSWER_S, metadata=header).value)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                if mode.lower() != "token":
                    raise PenstockError(
                        f"the cluster at {where} asks for a token, and RAY_AUTH_MODE={mode} shows none; "
                        f"unset it, with the token in {_places()}"
                    ) from None
                raise (wrong_token if token else missing_token)(where) from None
            raise PenstockError(
                f"what answers at {where} is not the head of a Ray cluster ({error.code().name.lower()}); "
                f"the port is that of `ray start --head`, 6379 unless told otherwise"
            ) from None
        except ValueError:
            return  # a head that says nothing about itself: Ray finds out
    # Ray itself wants all three numbers of Python from a driver, unless this variable says otherwise
    numbers = 2 if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor" else 3
    demand_versions(where, str(found.get("ray_version")), str(found.get("python_version")), numbers)
