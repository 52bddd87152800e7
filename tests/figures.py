"""What the long tests measured, kept as JSON lines."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def machine() -> str:
    """Cores and their maker's name for them."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else 'an unnamed processor'}"


def keep(test: str, result: dict[str, Any]) -> None:
    """Prints `result`, and replaces the line of `test` in the file that PENSTOCK_FIGURES names."""
    line = {
        "test": test,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        **result,
    }
    print(json.dumps(line))
    named = os.environ.get("PENSTOCK_FIGURES")
    if not named:
        return
    path = Path(named)
    lines = [json.loads(one) for one in path.read_text().splitlines()] if path.exists() else []
    lines = sorted([one for one in lines if one["test"] != test] + [line], key=lambda one: str(one["test"]))
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
