"""A disk that fills up while a run saves: one line, nothing lost, and the same bits once there is room."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.store import Store

IN_A_SMALL_DISK = """
import json, sys
from pathlib import Path
import torch
from penstock.errors import StoreError
from penstock.experiment import train
from penstock.store import Store
from penstock.training import checkpoint
from penstock.training.run import Run

torch.set_num_threads(1)
WORDS = ["data.items=60", "train.batch=8", "train.epochs=4", "train.checkpoint_every=3"]
WORDS.append("train.keep_checkpoints=30")

def toy(store, **asked):
    return train("toy", store=store, workers=1, overrides=WORDS, **asked)

small, large = Store.open(sys.argv[1]), Store.open(sys.argv[2])
whole = toy(large)
ballast = small.root / "ballast"

def fill(event):
    # another program takes the room that is left, all but a little, once training is under way
    if event["event"] == "checkpoint" and event["step"] == 6:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        with ballast.open("r+b") as file:
            file.truncate(max(ballast.stat().st_size - 40_000, 0))

try:
    toy(small, on_event=fill)
    raise SystemExit("the disk was not full")
except StoreError as error:
    line = str(error)
assert "disk full while writing" in line and "free space in" in line and "\\n" not in line, line
(name,) = [path.name for path in small.runs.iterdir()]
run = Run.open(small, name)
warnings = []
kept = run.newest_checkpoint(warnings.append)
assert kept is not None and kept.step >= 6 and not warnings
intact = [checkpoint.at(run.checkpoints, step).step for step in checkpoint.steps(run.checkpoints)]
assert intact[:3] == [3, 5, 6]
assert not [path for path in run.checkpoints.iterdir() if path.name.startswith(".tmp-")]
ballast.unlink()
done = toy(small)
assert done.attempts[-1]["from_step"] == kept.step
assert (done.weights_sha256, done.loss_curve_sha256) == (whole.weights_sha256, whole.loss_curve_sha256)
print("full at", kept.step, "|", line)
"""


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path: Path, store: Store) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    in_namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=3m tmpfs '{disk}'"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*in_namespace, mount], capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody mount a small tmpfs in a namespace of its own")
    script = tmp_path / "script.py"
    script.write_text(IN_A_SMALL_DISK)
    run = f"'{sys.executable}' '{script}' '{disk}/store' '{store.root}'"
    ended = subprocess.run([*in_namespace, f"{mount} && {run}"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert "full at" in ended.stdout
