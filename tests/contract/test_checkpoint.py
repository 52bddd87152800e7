"""Checkpoints: committed or absent, damaged ones passed over, exact, beside training."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock.errors import StoreError
from penstock.training import checkpoint
from penstock.training.checkpoint import AsyncSaver
from penstock.training.packing import pack, unpack
from tests.contract.test_store import kill_at_each_step


def save(folder: Path, step: int) -> None:
    """A checkpoint whose every value tells its step."""
    tensors = {"w": torch.full((3, 5), float(step)), "b": torch.full((), step, dtype=torch.int64)}
    checkpoint.save(folder, step, tensors, {"step": step}, metrics_bytes=10 * step)


def whole(found: checkpoint.Checkpoint) -> bool:
    tensors, state = found.load()
    return (
        bool((tensors["w"] == found.step).all())
        and int(tensors["b"]) == state["step"] == found.step
        and found.metrics_bytes == 10 * found.step
    )


def warnings_of(folder: Path) -> tuple[checkpoint.Checkpoint | None, list[str]]:
    told: list[str] = []
    return checkpoint.newest(folder, told.append), told


# ---------------------------------------------------------------- killed


def test_a_kill_at_every_step_of_a_save_leaves_the_older_or_the_newer_one(tmp_path: Path) -> None:
    save(tmp_path, 10)
    seen = set()

    def work() -> None:
        save(tmp_path, 20)
        checkpoint.retain(tmp_path, 20, newest_kept=1, keep=())

    def check() -> None:
        found, told = warnings_of(tmp_path)
        assert found is not None and whole(found) and told == []
        seen.add(found.step)
        if found.step == 20:  # begin again from the older one
            save(tmp_path, 10)
            checkpoint.discard_folder(tmp_path / "00000020")

    assert kill_at_each_step(work, check) > 15
    assert seen == {10, 20}
    AsyncSaver(tmp_path)  # a new writer sweeps what the killed ones left
    assert [entry.name for entry in tmp_path.iterdir()] == ["00000010"]


# ---------------------------------------------------------------- damaged


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_is_passed_over_with_one_line(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20)
    damage(tmp_path / "00000020" / file)
    found, told = warnings_of(tmp_path)
    assert found is not None and found.step == 10 and whole(found)
    assert len(told) == 1 and "\n" not in told[0]
    assert "00000020" in told[0] and "falling back" in told[0]


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    path = tmp_path / "00000010" / "manifest.json"
    raw = path.read_bytes()
    for byte in range(len(raw)):
        for bit in (0, 4):
            path.write_bytes(raw[:byte] + bytes([raw[byte] ^ (1 << bit)]) + raw[byte + 1 :])
            with pytest.raises(StoreError, match=r"damaged|missing"):
                checkpoint.at(tmp_path, 10)


def test_when_all_are_damaged_there_is_none(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step)
        truncate(tmp_path / f"{step:08d}" / "state.json")
    found, told = warnings_of(tmp_path)
    assert found is None and len(told) == 2


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert warnings_of(tmp_path / "nothing") == (None, [])


def test_a_damaged_one_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20)
    truncate(tmp_path / "00000020" / "state.json")
    save(tmp_path, 20)
    found, told = warnings_of(tmp_path)
    assert found is not None and found.step == 20 and whole(found) and told == []


# ---------------------------------------------------------------- kept and deleted


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    with AsyncSaver(tmp_path, keep=2) as saver:
        for step in range(10, 60, 10):
            saver.save(step, {"w": torch.ones(1)}, {}, 0, keep={10})
    assert checkpoint.steps(tmp_path) == [10, 40, 50]


def test_a_damaged_newer_one_never_crowds_out_an_intact_one(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    truncate(tmp_path / "00000030" / "state.json")  # the run fell back to 20 and went on
    save(tmp_path, 25)
    checkpoint.retain(tmp_path, 25, newest_kept=2, keep=())
    assert checkpoint.steps(tmp_path) == [20, 25]


# ---------------------------------------------------------------- beside training


def test_a_save_holds_the_values_of_its_moment(tmp_path: Path) -> None:
    weight = torch.zeros(1000)
    state = {"step": 1}
    with AsyncSaver(tmp_path) as saver:
        saver.save(1, {"w": weight}, state, 0)
        weight.fill_(7.0)  # training goes on at once
        state["step"] = 7
    found = checkpoint.at(tmp_path, 1).load()
    assert found[1] == {"step": 1} and float(found[0]["w"].sum()) == 0.0


def test_what_goes_wrong_in_the_thread_is_raised_by_the_next_save(tmp_path: Path) -> None:
    saver = AsyncSaver(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("a file where the folder was")
    saver.save(1, {"w": torch.ones(1)}, {}, 0)
    with pytest.raises(StoreError, match="not a folder"):
        saver.save(2, {"w": torch.ones(1)}, {}, 0)
    saver.close()  # told once


def test_an_error_on_its_way_out_is_not_hidden_by_a_failed_save(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with AsyncSaver(tmp_path / "checkpoints") as saver:
            (tmp_path / "checkpoints").rmdir()
            (tmp_path / "checkpoints").write_text("")
            saver.save(1, {"w": torch.ones(1)}, {}, 0)
            raise ZeroDivisionError
    assert not any(thread.name.startswith("checkpoint") for thread in threading.enumerate())


# ---------------------------------------------------------------- exact


def test_nested_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    parameters = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(2))]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    value = {
        "optim": optimiser.state_dict(),
        "half": torch.randn(3).to(torch.bfloat16),
        "awkward": (0.1, -0.0, math.inf, 5e-324, 2**60, None, True, "é/%2F"),
        "a/b": {"c": torch.ones(1)},
        "a": {"b/c": torch.zeros(1)},
        7: [[], {}, ()],
    }
    tensors, state = pack(value)
    checkpoint.save(tmp_path, 1, tensors, state, 0)
    found = unpack(*checkpoint.at(tmp_path, 1).load())
    assert pack(found)[1] == state  # types, order, numbers
    assert list(found) == list(value)
    again, _ = pack(found)
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype and torch.equal(again[name], tensor), name
    assert math.copysign(1.0, found["awkward"][1]) == -1.0


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    tied = torch.randn(3)
    with AsyncSaver(tmp_path) as saver:
        saver.save(1, {"a": tied, "b": tied, "c": tied[1:]}, {}, 0)
    tensors, _ = checkpoint.at(tmp_path, 1).load()
    assert torch.equal(tensors["b"], tied) and torch.equal(tensors["c"], tied[1:])


def test_what_cannot_be_saved_is_named_by_its_path() -> None:
    with pytest.raises(TypeError, match="optim/0: cannot save a set"):
        pack({"optim": [set()]})
    with pytest.raises(TypeError, match="a key of type tuple"):
        pack({"optim": {(1, 2): 3}})


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert sorted(path.suffix for path in (tmp_path / "00000001").iterdir()) == [
        ".json",
        ".json",
        ".safetensors",
    ]
    json.loads((tmp_path / "00000001" / "manifest.json").read_bytes())
