"""A stranger's workload, the one that `penstock new` writes: installed from outside the repository, found by
its entry point, checked, trained, served."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.command import command, environment, penstock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed packages: the workload `waves`, written by `penstock new` and built by pip."""
    place = tmp_path_factory.mktemp("stranger")
    written = Path(penstock("new", "waves", "--into", place, "--json", store=place / "store").json["path"])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    offline = ["--no-deps", "--no-build-isolation", "--target", str(place / "site"), str(written)]
    subprocess.run([*pip, *offline], check=True, capture_output=True, text=True)
    return place / "site"


def test_it_is_found_checked_trained_and_judged(site: Path, tmp_path: Path) -> None:
    def say(*words: object) -> dict[str, object]:
        return penstock(*map(str, words), "--json", store=tmp_path, path=site).json

    listed = say("list")["workloads"]
    assert "waves" in [row["name"] for row in listed]  # type: ignore[attr-defined]
    checked = say("check", "waves")
    assert checked["failed"] == [] and len(checked["passed"]) == 17  # type: ignore[arg-type]
    made = say("train", "waves", "--workers", 1)
    assert made["metrics"]["rmse"]["high"] < 0.2  # type: ignore[index]  # a straight line has 0.54
    assert Path(str(made["report"])).is_file()


def test_it_is_served_and_a_clean_stop_leaves_nothing_behind(site: Path, tmp_path: Path) -> None:
    made = penstock(
        "train", "waves", "train.epochs=8", "--workers", "1", "--json", store=tmp_path, path=site
    ).json
    serving = subprocess.Popen(
        command("serve", "waves@1", "--port", "0", "--json"),
        env=environment(tmp_path, site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        assert line, serving.stderr and serving.stderr.read()
        url = json.loads(line)["url"]
        answer = httpx.post(f"{url}/v1/models/waves/predict", json={"x": [0.5, 0.1, -0.2]}, timeout=30)
        assert answer.status_code == 200 and set(answer.json()) == {"y"}
        assert answer.headers["x-model"] == "waves@1"
        refused = httpx.post(f"{url}/v1/models/waves/predict", json={"x": [0.5]}, timeout=30)
        assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
        judged = penstock("evaluate", "waves@1", "--through", url, "--json", store=tmp_path, path=site).json
        assert judged["metrics"]["rmse"] == pytest.approx(made["metrics"]["rmse"], abs=1e-6)
    finally:
        serving.send_signal(signal.SIGINT)
        try:
            _, err = serving.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            serving.terminate()
            raise
    assert serving.returncode in (0, 130)
    assert err.strip() == "penstock: stopped; the same command serves again"
    with pytest.raises(httpx.ConnectError):
        until = time.monotonic() + 10
        while time.monotonic() < until:  # the port is free again
            httpx.get(f"{url}/healthz", timeout=2)
