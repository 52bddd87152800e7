"""What people do wrong, each told in one line with the way out, and nothing lost. (A full disk:
tests/cluster/test_disk_full.py.)"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from penstock.store import Store
from tests import untrained
from tests.command import Finished, command, environment

Cli = Callable[..., Finished]
QUICK = ["train.epochs=2", "--workers", "1"]


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def wav(samples: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8_000, 0, "NONE", ""))
        out.writeframes(bytes(2 * samples))
    return file.getvalue()


def pictures(folder: Path, **classes: int) -> Path:
    """An ImageFolder with so many pictures in each class."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{i}.jpg").write_bytes(jpeg(i))
    return folder


# ---------------------------------------------------------------- data


def test_a_missing_folder(cli: Cli, tmp_path: Path) -> None:
    error = cli("train", "pathology", "--data", f"imagefolder:{tmp_path}/nowhere").error
    assert "nowhere" in error and "no file or folder" in error


def test_an_unknown_source_format(cli: Cli, tmp_path: Path) -> None:
    assert "did you mean imagefolder?" in cli("prepare", "pathology", f"imagefolde:{tmp_path}").error


def test_an_empty_class(cli: Cli, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data", tumour=3, healthy=0)
    error = cli("prepare", "pathology", f"imagefolder:{folder}").error
    assert "'healthy' is empty" in error and "remove it" in error


def test_one_class_only(cli: Cli, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data", tumour=3)
    assert "only one class, 'tumour'" in cli("prepare", "pathology", f"imagefolder:{folder}").error


def test_a_truncated_jpeg_is_named_and_can_be_left_out(cli: Cli, tmp_path: Path, ray_session: None) -> None:
    folder = pictures(tmp_path / "data", tumour=8, healthy=8)
    (folder / "tumour" / "3.jpg").write_bytes(jpeg()[:700])
    error = cli("prepare", "pathology", f"imagefolder:{folder}").error
    assert "tumour/3.jpg" in error and "truncated" in error and "--skip-bad 1" in error
    made = cli("prepare", "pathology", f"imagefolder:{folder}", "--skip-bad", 1, "--json").json
    assert made["items"] == 15
    assert [bad["item"] for bad in made["skipped"]] == ["tumour/3.jpg"]


def test_a_wav_of_zero_samples_is_named(cli: Cli, tmp_path: Path, ray_session: None) -> None:
    for label in ("yes", "no"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "data" / label / f"{i}_ann_0.wav").write_bytes(wav(800))
    (tmp_path / "data" / "yes" / "2_ann_0.wav").write_bytes(wav(0))
    error = cli("prepare", "speech", f"wav:{tmp_path / 'data'}").error
    assert "yes/2_ann_0.wav" in error and "no samples" in error and "--skip-bad 1" in error


# ---------------------------------------------------------------- settings and machines


def test_an_unknown_setting_and_a_wrong_type(cli: Cli) -> None:
    assert (
        cli("train", "speech", "optim.lrr=1").error
        == "penstock: no setting optim.lrr; did you mean optim.lr?"
    )
    assert (
        "train.epochs = 'ten': input should be a valid integer"
        in cli("train", "speech", "train.epochs=ten").error
    )


def test_more_workers_than_cpus(cli: Cli) -> None:
    error = cli("train", "toy", "--workers", 99).error
    assert "99 workers" in error and "--cpus 99" in error


def test_a_port_in_use(cli: Cli) -> None:
    made = cli("train", "toy", *QUICK, "--json").json
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = cli("serve", f"toy@{made['version']}", "--port", port).error
    assert error.startswith(f"penstock: port {port} is in use; ") and "--port" in error


def test_an_address_that_others_can_reach(cli: Cli) -> None:
    cli("train", "toy", *QUICK)
    assert "no access keys" in cli("serve", "toy@1", "--host", "0.0.0.0").error


# ---------------------------------------------------------------- models


def test_a_corrupted_card(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "toy", *QUICK, "--json").json["version"] == 1
    assert cli("train", "toy", "optim.lr=0.02", *QUICK, "--json").json["version"] == 2
    card = tmp_path / "store" / "models" / "toy" / "1" / "card.json"
    card.write_text(card.read_text().replace('"accuracy"', '"certainty"', 1))
    for words in (["evaluate", "toy@1"], ["serve", "toy@1"], ["promote", "toy", "1", "live"]):
        error = cli(*words).error
        assert "toy@1 is damaged" in error
    listed = cli("models", "--json").json["models"]
    assert [row["version"] for row in listed] == [1, 2] and listed[0]["fault"] and not listed[1]["fault"]
    assert cli("evaluate", "toy@2", "--json").json["items"] > 0  # its neighbour is unaffected


def test_no_such_model_or_alias(cli: Cli) -> None:
    assert "train WORKLOAD" in cli("evaluate", "toy").error
    cli("train", "toy", *QUICK)
    assert "versions: 1" in cli("evaluate", "toy").error  # synthetic data: a candidate, not live
    assert "did you mean toy?" in cli("evaluate", "toys@1").error


def test_an_endpoint_that_does_not_answer(cli: Cli) -> None:
    cli("train", "toy", *QUICK)
    assert "127.0.0.1:1" in cli("evaluate", "toy@1", "--through", "http://127.0.0.1:1").error


def test_a_name_that_cannot_be_published_under_is_refused_before_anything_is_trained(
    cli: Cli, store: Store
) -> None:
    untrained.publish(store, "toy")
    for verb in ("train", "tune"):
        assert "'a/b' cannot name a model" in cli(verb, "toy", "--model", "a/b").error
        said = cli(verb, "speech", "--preset", "smoke", "--model", "toy").error
        assert "model toy holds toy models, not speech; publish under another name: --model toy-2" in said
    assert cli("runs", "--json").json["runs"] == []


# ---------------------------------------------------------------- runs


LONG = ["train", "toy", "--name", "mine", "--workers", "1", "train.epochs=120", "train.checkpoint_every=40"]


@contextmanager
def under_way(store: Path) -> Iterator[Path]:
    """A run that has committed two checkpoints and goes on; SIGKILLed in the end. Gives its folder."""
    run = store / "runs" / "mine"
    process = subprocess.Popen(
        command(*LONG), env=environment(store), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until = time.monotonic() + 60
        while len(committed(run)) < 2:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < until, "no checkpoint within a minute"
            time.sleep(0.02)
        yield run
    finally:
        process.kill()
        process.wait()


def committed(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not (run / "checkpoints").is_dir():
        return []
    found = [path for path in (run / "checkpoints").iterdir() if not path.name.startswith(".")]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(re.sub(r"\D", "", checkpoint.name))


def test_a_run_that_is_running_or_was_asked_for_otherwise_and_a_corrupted_checkpoint(
    cli: Cli, tmp_path: Path
) -> None:
    with under_way(tmp_path / "store") as run:
        error = cli(*LONG).error
        assert "run 'mine' is running already (process " in error and "--name" in error
        os.kill(int(re.findall(r"process (\d+)", error)[0]), signal.SIGKILL)
    error = cli(*LONG, "optim.lr=0.5").error
    assert "optim.lr (0.01, now 0.5)" in error and "--fresh" in error

    *_, before, newest = committed(run)
    (weights,) = [path for path in newest.iterdir() if path.suffix == ".safetensors"]
    weights.write_bytes(weights.read_bytes()[:-100])
    done = cli(*LONG, "--json")
    warnings = [
        event for line in done.out.splitlines()[:-1] if (event := json.loads(line))["event"] == "warning"
    ]
    assert len(warnings) == 1 and newest.name in warnings[0]["message"]
    assert done.json["attempts"][-1]["from_step"] == step_of(before)
