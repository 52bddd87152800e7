"""The thinnest thread through the whole house: the demo, as `make demo ONCE=1` runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from penstock.demo import curl_line, shortened
from tests.command import penstock


def test_the_demo_trains_serves_asks_and_stops(tmp_path: Path) -> None:
    done = penstock("demo", "pathology", "toy", "--once", "--json", store=tmp_path, timeout_s=280)
    result = done.json
    assert result["models"] == ["pathology@1", "toy@1"]
    assert set(result["answers"]) == {"pathology@1", "toy@1"}
    assert "probabilities" in result["answers"]["pathology@1"]
    assert Path(result["store"]) == tmp_path / "demo"  # a store of its own
    assert not list((tmp_path / "models").iterdir())
    events = [json.loads(line) for line in done.out.splitlines()[:-1]]
    assert {"start", "validation", "published"} <= {event["event"] for event in events}


def test_the_curl_line_can_be_pasted(tmp_path: Path) -> None:
    sample = tmp_path / "a folder" / "toy.json"
    line = curl_line("http://127.0.0.1:1", "toy@1", sample)
    said = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    ).stdout
    assert f"@{sample}" in said.splitlines()
    assert said.splitlines()[-1] == "http://127.0.0.1:1/v1/models/toy/predict"


@pytest.mark.parametrize("value", ["x" * 500, {"a": ["x" * 500]}])
def test_long_texts_in_an_answer_are_cut_for_people(value: object) -> None:
    assert len(json.dumps(shortened(value), ensure_ascii=False)) < 80


def test_of_a_long_list_the_first_are_shown_and_how_many_there_are() -> None:
    assert shortened({"box": [1, 2, 3, 4]}) == {"box": [1, 2, 3, 4]}
    assert shortened({"boxes": list(range(100))}) == {"boxes": [0, 1, 2, 3, "… 96 more"]}
