"""WAV folders to rows, and any recording to the wave that the network hears.

`wav:FOLDER` reads `<label>/<name>.wav`. `train_list.txt` and `test_list.txt` (or Speech Commands'
`testing_list.txt`) hold the split; without them a seeded hash decides. Folders that begin with "_" or "."
(`_background_noise_`) are no labels.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from penstock.data.source import licence
from penstock.errors import DataError, nearest
from penstock.media import decode_wav
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.speech.config import Data

SPEAKER = (re.compile(r"([0-9a-f]{8})_nohash_\d+"), re.compile(r"[^_]+_([^_]+)_\d+"))
"""File stems that tell who speaks: Speech Commands `<hash>_nohash_<n>`, FSDD `<digit>_<speaker>_<n>`."""


class WavFolder:
    """The format `wav`: one folder per label, WAV at 8 to 48 kHz inside."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        if not root.is_dir():
            raise DataError(f"no folder {path!r}; wav:FOLDER holds one folder of .wav files per label")
        folders = sorted(f for f in root.iterdir() if f.is_dir() and f.name[0] not in "._")
        if not folders:
            raise DataError(f"{path!r} holds no folders; each label is a folder of .wav files")
        labels = tuple(f.name for f in folders)
        files = {
            f"{folder.name}/{file.name}": file
            for folder in folders
            for file in sorted(folder.iterdir())
            if file.suffix.lower() == ".wav" and file.name[0] != "."
        }
        actions = Path(config.actions).expanduser() if config.actions else root / "actions.toml"
        present = config.actions != "" or actions.is_file()
        splits = read_lists(root, files)
        items = [
            Item(
                name=name,
                split=splits.get(name, ""),
                unit=speaker(file.stem),
                where={"file": str(file.resolve()), "label": file.parent.name},
            )
            for name, file in files.items()
        ]
        return Scan(
            items=leave_out(items, config.leave_out),
            schema=Schema(labels, assets={"actions.toml": read_actions(actions, labels)} if present else {}),
            files=[*files.values(), *sorted(root.glob("*_list.txt")), *([actions] if present else [])],
            licence=licence(root),
        )

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            try:
                audio = Path(item.where["file"]).read_bytes()
            except OSError as error:
                yield Fault(error.strerror or "cannot be read")
            else:
                yield {"audio": audio, "label": schema.labels.index(item.where["label"])}


def speaker(stem: str) -> str:
    """Who speaks in a file with this stem; "" where the name does not tell."""
    for pattern in SPEAKER:
        if found := pattern.fullmatch(stem):
            return found[1]
    return ""


def read_lists(root: Path, files: Mapping[str, Path]) -> dict[str, Literal["train", "test"]]:
    """Clip -> split as the lists beside the label folders say; empty without a list of test clips."""
    listed: dict[str, set[str]] = {}
    for name in ("test_list.txt", "testing_list.txt", "train_list.txt"):
        if (root / name).is_file():
            listed[name] = set((root / name).read_text(encoding="utf-8").splitlines()) - {""}
            for missing in sorted(listed[name] - set(files))[:1]:
                raise DataError(f"{name} names {missing!r}, which is not there; correct the list")
    test = listed.get("test_list.txt", listed.get("testing_list.txt"))
    if test is None:
        return {}
    train = listed.get("train_list.txt", set(files) - test)
    for both in sorted(train & test)[:1]:
        raise DataError(f"{both!r} is in the lists of train and of test; remove it from one")
    for neither in sorted(set(files) - train - test)[:1]:
        raise DataError(
            f"{neither!r} is neither in train_list.txt nor in the list of test clips; add it to one"
        )
    return {name: "test" if name in test else "train" for name in files}


def leave_out(items: Sequence[Item], who: str) -> list[Item]:
    """The items with the clips of `who` as test split and all others to train on; unchanged for ""."""
    if not who:
        return list(items)
    speakers = {item.unit for item in items if item.unit}
    if who not in speakers:
        raise DataError(f"data.leave_out = {who!r}: no such speaker{nearest(who, speakers)}")
    # One speaker is one unit, and one unit has no interval: here the clips themselves are resampled.
    return [Item(i.name, "test" if i.unit == who else "train", "", i.where) for i in items]


def read_actions(file: Path, labels: Sequence[str]) -> bytes:
    """The checked text of an actions file: TOML, `label = "action"`; it travels with the model."""
    try:
        text = file.read_text(encoding="utf-8")
        actions = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"actions file {file.name!r}: {error}") from None
    for label, action in actions.items():
        if label not in labels:
            raise DataError(f"actions file {file.name!r}: no label {label!r}{nearest(label, labels)}")
        if not isinstance(action, str):
            raise DataError(
                f'actions file {file.name!r}: {label} = {action!r}; write {label} = "name of the action"'
            )
    return text.encode()


# ---------------------------------------------------------------- a recording -> what the network hears


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `wave` float32 [samples] in -1..1 at the config's rate, and `label`."""
    return {"wave": fit(load(row["audio"], config.rate), config.samples), "label": row["label"]}


def load(raw: bytes, rate: int) -> np.ndarray[Any, Any]:
    """The whole recording as a mono float32 wave at `rate` Hz; ValueError says what is wrong."""
    import torch

    wave, original = decode_wav(raw)
    if original == rate:
        return wave
    return np.asarray(resampler(original, rate)(torch.from_numpy(wave)).numpy(), dtype=np.float32)


@lru_cache(maxsize=8)
def resampler(original: int, rate: int) -> Any:
    """A torchaudio resampler between two rates in Hz."""
    from torchaudio.transforms import Resample

    # Its filter bank grows with the reduced ratio: 47,999 to 8,000 Hz would take gigabytes. The usual rates
    # need at most 441 (44.1 kHz); of others the pitch is off by 0.2 % at most.
    ratio = Fraction(rate, original).limit_denominator(441)
    return Resample(ratio.denominator, ratio.numerator)


def fit(wave: np.ndarray[Any, Any], samples: int) -> np.ndarray[Any, Any]:
    """The wave as exactly `samples`: a short one centred in silence, of a long one the loudest stretch."""
    if len(wave) <= samples:
        before = (samples - len(wave)) // 2
        return np.pad(wave, (before, samples - len(wave) - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return wave[start : start + samples].copy()
