"""`predict`: files at once, a folder through Ray Data, the same answers from both."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from penstock.errors import DataError, ModelError, PenstockError
from penstock.experiment import train
from penstock.prediction import predict
from penstock.store import Store
from tests.toy import picture


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a small toy model."""
    made = Store.open(tmp_path_factory.mktemp("predict"))
    train("toy", store=made, workers=1, overrides=("data.items=60", "train.epochs=1"), live_first=True)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty requests, one that pydantic refuses, one that the model refuses, and a file of another kind."""
    place = tmp_path / "patches"
    (place / "deep").mkdir(parents=True)
    for i in range(40):
        (place / "deep" / f"{i:02d}.json").write_text(json.dumps({"pixels": list(picture(i, i % 2, 0.3))}))
    (place / "odd.json").write_text('{"pixels": "none"}')
    (place / "short.json").write_text('{"pixels": [1, 2, 3]}')
    (place / "notes.txt").write_text("not a request")
    return place


def test_files_are_answered_in_order(store: Store, folder: Path, tmp_path: Path) -> None:
    files = [folder / "deep" / "01.json", folder / "short.json", folder / "deep" / "00.json"]
    result = predict("toy", files, output=tmp_path / "answers.json", store=store)
    assert [Path(answer["input"]).name for answer in result["answers"]] == [
        "01.json",
        "short.json",
        "00.json",
    ]
    assert set(result["answers"][0]["answer"]) == {"label", "score"}
    assert result["answers"][1]["refused"] == "64 pixels of 0 to 255 are needed"
    assert json.loads((tmp_path / "answers.json").read_text()) == result["answers"]


def test_a_folder_goes_through_ray_data_to_parquet_with_the_same_answers(
    store: Store, folder: Path, tmp_path: Path, ray_session: None
) -> None:
    result = predict("toy", str(folder), output=tmp_path / "out.parquet", store=store)
    assert (result["items"], result["refused"]) == (42, 2)
    rows = pq.read_table(result["output"]).to_pylist()
    assert [row["item"] for row in rows] == [
        *(f"deep/{i:02d}.json" for i in range(40)),
        "odd.json",
        "short.json",
    ]
    assert "pixels" in rows[40]["refused"] and rows[41]["refused"] and rows[40]["label"] is None
    direct = predict("toy", [folder / row["item"] for row in rows[:40]], store=store)["answers"]
    for row, answer in zip(rows, direct, strict=False):
        assert row["label"] == answer["answer"]["label"]
        assert row["score"] == pytest.approx(answer["answer"]["score"], abs=1e-5)


def test_what_cannot_be_answered_is_one_line(store: Store, folder: Path) -> None:
    for inputs, kind, message in [
        ([folder / "missing.json"], DataError, "no file or folder"),
        ([folder / "notes.txt"], DataError, r"notes.txt: the model takes \.json"),
        ([folder / "odd.json"], DataError, "odd.json: pixels"),
        ([folder, folder], PenstockError, "one folder, or files"),
        ([], PenstockError, "no input"),
    ]:
        with pytest.raises(kind, match=message) as error:
            predict("toy", inputs, store=store)
        assert "\n" not in str(error.value)
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.json"):
        predict("toy", folder.parent / "empty", store=store)
    with pytest.raises(ModelError, match="no model 'toi'"):
        predict("toi", [folder / "odd.json"], store=store)
