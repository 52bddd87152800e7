"""One stretch of one trial's training, on the process that Ray has given it."""

from __future__ import annotations

import gc
import math
import sys
from pathlib import Path
from typing import Any

from penstock import agents
from penstock.errors import PenstockError, RunFailed, StoreError
from penstock.experiment import learn
from penstock.training.means import Means
from penstock.training.run import Run
from penstock.training.work import parts_of
from penstock.tuning.search import Answer


def train(address: str | Path, means: Means, until: int | None) -> Answer:
    """Train the run at `address` until it is validated that often (None: to its end); nothing is done when it
    is there already. What goes wrong with the trial is in the answer; StoreError, which the next one would
    meet as well, is raised."""
    run = Run.at(address)
    try:
        workload, config, _ = parts_of(run)
        if run.outcome() is None and (until is None or run.validated() < until):
            plays = agents.learns(workload, config) != "data"
            learn(run, means, None, lambda event: None, plays, until)
        outcome = run.outcome()
    except StoreError:
        raise
    except (PenstockError, RunFailed) as error:
        return Answer(why=_line(error))
    except Exception as error:
        return Answer(why=f"{type(error).__name__}: {_line(error)}")
    finally:
        _free()
    values = [line["validation"].get(workload.goal.metric) for line in run.metrics.validations()]
    step = outcome[1]["steps"] if outcome is not None else max(_steps(run), default=0)
    return Answer(
        [math.nan if value is None else float(value) for value in values], step, outcome is not None
    )


def _steps(run: Run) -> list[int]:
    return [int(line["step"]) for line in run.metrics.validations()]


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def _free() -> None:
    # the next trial has this process, and this device's memory, to itself
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
