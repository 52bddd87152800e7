"""The Ray this process works on: an existing cluster, or a quiet local one with token access."""

from __future__ import annotations

import functools
import os
import secrets
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock import head
from penstock.errors import PenstockError

SETTINGS = {
    "RAY_worker_niceness": "0",  # workers run at niceness 15 otherwise and starve beside any other load
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # every report and every end of a run waits for one poll
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # each printed line reaches the driver twice otherwise
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # what we serve leaves the event loop free by itself; another loop would cost each request a millisecond
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
    # Serve's own HTTP proxy lets every request through the same door as the gateway does
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "penstock.serving.web.door:middlewares",
}
"""Ray reads these before it starts; all nodes of a cluster have them. One that Penstock does not start gets
them from `python -m penstock.cluster`, which prints them for a shell."""
_KEPT_S = 86_400.0  # how long the logs of a session without a driver are kept
_LONGEST_TEMP = 36  # characters; Ray's sockets lie deeper, and a socket's path has at most 107


def ensure_ray(cpus: int | None = None, dashboard: bool = False) -> None:
    """Ray, ready to use: what this process has initialised already, the cluster that RAY_ADDRESS
    names, or a local one with `cpus` logical CPUs (default: the machine's).

    The local one asks for a token on the dashboard, Jobs and every internal port, and prints
    nothing. PenstockError when the cluster cannot be joined (nobody there, the token, other versions; known
    within seconds) or Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS")
    _configure(create_token=not elsewhere())
    import ray

    if ray.is_initialized():
        return
    if address and elsewhere() and address != "auto":
        head.demand(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "penstock"}
    try:
        with _signals_kept():
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    _temp_dir=_temp_dir(),
                    **quiet,
                )
        # a node that dies would be told of on stdout, log_to_driver or not, between lines of JSON
        ray._private.worker._worker_logs_enabled = False
    except PenstockError:
        raise
    except Exception as error:  # a bare one where a node does not come up in time
        first = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        if address:
            raise PenstockError(
                f"cannot join the cluster of RAY_ADDRESS={address}: {first}; see that its token is in "
                f"RAY_AUTH_TOKEN or ~/.ray/auth_token, or unset RAY_ADDRESS for a local one"
            ) from error
        raise PenstockError(f"cannot start a local Ray: {first}; `penstock doctor` tells more") from error


def shutdown() -> None:
    """Leaves the cluster; a local one is stopped with all its processes. Harmless without Ray."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def elsewhere() -> bool:
    """Whether RAY_ADDRESS names a cluster that lives without this process."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def available_cpus() -> int:
    """Logical CPUs of the initialised cluster, else those this process may use."""
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            return int(ray.cluster_resources().get("CPU", 0))
    return len(os.sched_getaffinity(0))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray has SIGTERM end a process where it stands, with lines of its own: who handles it still does. And
    what `timeout` or a shell sends to the whole group would end a local Ray before whoever needs it to stop
    in order: Ray's processes get groups of their own. They end with this one whatever ends it."""
    from ray._private import services

    before, start = signal.getsignal(signal.SIGTERM), services.ConsolePopen
    services.ConsolePopen = functools.partial(start, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = start
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _configure(create_token: bool) -> None:
    given = os.environ.get("RAY_AUTH_MODE")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ["RAY_AUTH_MODE"].lower() != "token":
        return
    if create_token:  # another's cluster has one already, and a new one would be the wrong one
        _create_token()
    if given is None and "ray" in sys.modules:
        # Ray read its settings when it was imported; without this it would start with tokens off
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")


def _create_token() -> None:
    """Ray would create the file itself, but readable by everybody."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = head.token_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # linked into place whole: another process never reads half a token
        aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        if path.exists():
            return
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        finally:
            aside.unlink()
    except OSError as error:
        raise PenstockError(
            f"cannot write Ray's token {str(path)!r}: {error.strerror}; "
            f"set RAY_AUTH_TOKEN_PATH to a writable file"
        ) from error


def private_folder() -> Path:
    """A folder for temporary files that only this user can enter. OSError when none can be made."""
    private = Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    # somebody else may have made a folder of that name in a shared temporary directory
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o77:
        private = Path(tempfile.mkdtemp(prefix="ps-"))
    return private


def _temp_dir() -> str | None:
    """A folder below one that only this user can enter (Ray opens its own to everybody), or None,
    Ray's default, where the path would be too long."""
    try:
        private = private_folder()
    except OSError:
        return None
    if len(str(private)) > _LONGEST_TEMP:
        return None
    remove_dead_sessions(private / "ray")
    return str(private / "ray")


def remove_dead_sessions(folder: Path) -> None:
    """Ray leaves a folder behind for each driver (session_<time>_<pid>), and never clears them away. Those
    whose process is gone and whose logs rest for a day are removed."""
    rests = time.time() - _KEPT_S
    for session in folder.glob("session_*_*[0-9]"):
        pid = session.name.rpartition("_")[2]
        with suppress(OSError):  # somebody else was first
            if session.is_symlink() or (Path("/proc") / pid).exists():
                continue
            if max(path.lstat().st_mtime for path in (session, session / "logs")) < rests:
                shutil.rmtree(session, ignore_errors=True)


if __name__ == "__main__":
    print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in SETTINGS.items()))
