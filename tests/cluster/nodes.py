"""A Ray cluster of several nodes on this machine, in a process of its own: nodes are killed and added."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Nodes:
    """The head is node 0, without CPUs; the others have one each unless told otherwise."""

    def __init__(self, *cpus: float, head: float = 0, env: dict[str, str] | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="ps-n-")  # short: Ray's sockets lie deep below it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.nodes", self._folder, str(head)],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.address: str = self._ask(what="address")
            self.ids = [self.add(each) for each in cpus]
        except BaseException:
            self.close()
            raise

    def add(self, cpus: float = 1) -> str:
        """Another node; its id, in hex."""
        return str(self._ask(what="add", cpus=cpus))

    def kill(self, node: str) -> None:
        """SIGKILL to all of its processes, workers included after a moment."""
        self._ask(what="kill", node=node)

    def drain(self, node: str, seconds: float) -> None:
        """Announce that it will be taken away, as a cloud does with a spot machine."""
        assert self._ask(what="drain", node=node, seconds=seconds)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends its nodes and itself
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)["answer"]
        raise AssertionError(f"the cluster ended ({self._process.wait()}) before {request}")


@contextmanager
def nodes(*cpus: float, head: float = 0, env: dict[str, str] | None = None) -> Iterator[Nodes]:
    made = Nodes(*cpus, head=head, env=env)
    try:
        yield made
    finally:
        made.close()


def main() -> None:
    folder, head = Path(sys.argv[1]), float(sys.argv[2])
    # beside the nodes' files, the address of "the current cluster", which others shall not find
    os.environ["RAY_TMPDIR"] = str(folder)
    (folder / "ray").mkdir()
    from penstock.cluster import _configure

    _configure(create_token=True)
    from ray._raylet import GcsClient
    from ray.cluster_utils import Cluster
    from ray.core.generated import autoscaler_pb2

    cluster = Cluster()
    cluster.add_node(num_cpus=head, include_dashboard=False)
    known: dict[str, Any] = {}
    try:
        for line in sys.stdin:
            request = json.loads(line)
            answer: Any = None
            if request["what"] == "address":
                answer = cluster.address
            elif request["what"] == "add":
                node = cluster.add_node(num_cpus=request["cpus"])
                answer = str(node.node_id)
                known[answer] = node
            elif request["what"] == "drain":
                deadline = int((time.time() + request["seconds"]) * 1000)
                reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
                gcs = GcsClient(address=cluster.address)
                answer, _ = gcs.drain_node(request["node"], reason, "a test", deadline)
            else:
                cluster.remove_node(known.pop(request["node"]), allow_graceful=False)
            print(json.dumps({"answer": answer}), flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
