"""One life of an algorithm: iterations, ratings, checkpoints."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penstock.agents import Plan
from penstock.errors import RunFailed
from penstock.rl.algorithms import build
from penstock.rl.module import agent_of
from penstock.rl.rating import Ratings
from penstock.training import checkpoint
from penstock.training.events import OnEvent
from penstock.training.means import Means
from penstock.training.progress import Outcome
from penstock.training.run import Run
from penstock.training.validation import validate
from penstock.training.weights import start_from, weights_of
from penstock.training.work import parts_of
from penstock.training.world import World

RATED = 8
"""Ratings of a run that does not say how many."""
RLLIB = "rllib"


@dataclass
class Progress:
    """Where a run stands; all of a checkpoint that is neither a tensor nor RLlib's."""

    step: int = 0  # iterations
    seconds: float = 0.0  # of training, ratings included, over all attempts
    games: float = 0.0
    rows: int = 0
    loss: float | None = None
    rated: int = 0
    best_step: int = 0
    best_goal: float = math.nan


class Attempt:
    """One life of the algorithm."""

    def __init__(self, run: Run, means: Means, runners: int, plan: Plan, tell: OnEvent) -> None:
        self.run, self.plan, self.tell, self.runners = run, plan, tell, runners
        self.workload, self.config, self.dataset = parts_of(run)
        self.agent = agent_of(run)
        torch.set_num_threads(run.spec.threads)
        self.algorithm = build(run, self.agent, means, runners)
        self.progress = Progress()
        found = run.newest_checkpoint(lambda line: tell({"event": "warning", "message": line}))
        if found is not None:
            self.average, state = found.load()
            self.progress = Progress(**state)
            self.algorithm.restore_from_path(str(found.path.absolute() / RLLIB))
        else:
            self._start_from()
            self.average = self.algorithm.net()
        run.metrics.truncate(found.metrics_bytes if found is not None else 0)
        self.ratings = Ratings(run, self.agent, self.progress.step)
        run.log_attempt(self.progress.step, max(runners, 1))
        self.began, self.before = time.monotonic(), self.progress.seconds
        self.rows_before, self.first_step_s = self.progress.rows, 0.0

    def _start_from(self) -> None:
        if self.run.spec.start_from is None:
            return
        fresh = start_from(self.agent.module, weights_of(self.run, self.run.spec.start_from))
        self.algorithm.set_net(self.agent.module.state_dict())
        self.tell({"event": "start_from", "fresh": fresh})

    # ---------------------------------------------------------------- the loop

    def go_on(self, until: int | None) -> None:
        """To the end, or until that many ratings are done."""
        try:
            self._say_start()
            while self.done() < 1:
                self._iterate()
                if self._after() and until is not None and len(self.run.metrics.validations()) >= until:
                    break
            if self.done() < 1:
                self.tell({"event": "paused", "step": self.progress.step})
            else:
                self._finish()
        finally:
            self.algorithm.stop()

    def done(self) -> float:
        """The share of the run that lies behind, 0 to 1."""
        self.progress.seconds = self.before + time.monotonic() - self.began
        of_time = self.progress.seconds / (60 * self.plan.minutes) if self.plan.minutes else 0.0
        return min(1.0, max(self.progress.step / self.plan.iterations, of_time))

    def _iterate(self) -> None:
        progress = self.progress
        self.algorithm.done = self.done()
        result = self.algorithm.train()
        progress.step += 1
        self.first_step_s = self.first_step_s or time.monotonic() - self.began
        played = self.algorithm.played(result)
        learned = self.algorithm.losses(result)
        progress.games += played.pop("games", 0.0)
        progress.rows += int(played.pop("rows", 0))
        line: dict[str, Any] = {
            "step": progress.step,
            "games": progress.games,
            "positions": progress.rows,
            **played,
        }
        loss = learned.pop("loss", None)
        if loss is not None:
            if not math.isfinite(loss):
                raise RunFailed(
                    f"run {self.run.name!r}: the loss of iteration {progress.step} is {loss}; lower optim.lr"
                )
            progress.loss = loss
            line |= {"loss": loss, **{f"loss/{name}": value for name, value in learned.items()}}
            decay = min(self.config.train.ema, (1 + progress.step) / (10 + progress.step))
            for name, tensor in self.algorithm.net().items():
                self.average[name] = torch.lerp(tensor, self.average[name], decay)
        self.run.metrics.append([line])
        elapsed = max(time.monotonic() - self.began, 1e-9)
        done = self.done()
        self.tell(
            {
                "event": "iteration",
                "step": progress.step,
                "steps": max(progress.step, round(progress.step / done)) if done else None,
                "done": done,
                "loss": progress.loss,
                "games": progress.games,
                "seconds": progress.seconds,
                "items_per_s": (progress.rows - self.rows_before) / elapsed,
            }
        )

    def _after(self) -> bool:
        """What is due after an iteration; whether that was a rating."""
        done, step = self.done(), self.progress.step
        if self.plan.rate_every:
            due = step % self.plan.rate_every == 0
        else:
            due = int(done * RATED) > self.progress.rated
        if due or done >= 1:
            self._rate()
        if due or done >= 1 or step % self.config.train.checkpoint_every == 0:
            self._save()
        return due or done >= 1

    def _rate(self) -> None:
        """What the weights are worth now: by the evaluator on the validation split, and against past
        selves."""
        progress, goal = self.progress, self.workload.goal
        progress.rated = max(progress.rated + 1, int(self.done() * RATED)) if not self.plan.rate_every else 0
        metrics, _ = validate(self.workload, self.config, self.dataset, self.average, World.alone())
        metrics |= self.ratings.rate(self.average, progress.step)
        if goal.better(metrics.get(goal.metric, math.nan), progress.best_goal):
            progress.best_step, progress.best_goal = progress.step, metrics[goal.metric]
        line = {"step": progress.step, "epoch": progress.step, "validation": metrics}
        facts = {"seconds": progress.seconds, "games": progress.games, "positions": progress.rows}
        self.run.metrics.append([{**line, **facts}])
        self.tell({"event": "rating", **line, **facts})

    def _save(self) -> None:
        def rllib(aside: Path) -> None:
            self.algorithm.save_to_path(str((aside / RLLIB).absolute()))

        self.done()
        step, length = self.progress.step, self.run.metrics.sync()
        checkpoint.save(self.run.checkpoints, step, self.average, asdict(self.progress), length, rllib)
        keep = {self.progress.best_step} - {0}
        checkpoint.retain(self.run.checkpoints, step, self.config.train.keep_checkpoints, keep)
        self.tell({"event": "checkpoint", "step": step})

    def _finish(self) -> None:
        progress = self.progress
        weights: Mapping[str, Tensor] = self.average
        if self.config.train.publish == "best" and progress.best_step:
            weights, _ = checkpoint.at(self.run.checkpoints, progress.best_step).load()
        curve = self.run.metrics.loss_curve().astype("<f8").tobytes()
        elapsed = max(time.monotonic() - self.began, 1e-9)
        outcome = Outcome(
            steps=progress.step,
            best_step=progress.best_step,
            goal=progress.best_goal,
            weights={},
            loss_curve_sha256=hashlib.sha256(curve).hexdigest(),
            items_per_s=(progress.rows - self.rows_before) / elapsed,
            first_step_s=self.first_step_s,
        )
        self.run.save_outcome(weights, asdict(outcome))
        self.tell({"event": "done", "step": progress.step, "items_per_s": outcome.items_per_s})

    # ---------------------------------------------------------------- small things

    def learner_lost(self) -> bool:
        """Whether a remote learner is gone; what RLlib raises then depends on what it was about to do."""
        return bool(self.algorithm.learners() < self.plan.learners)

    def _say_start(self) -> None:
        if self.progress.step:
            event = {"event": "playing_on", "step": self.progress.step, "done": self.done()}
        else:
            limit = f" or {self.plan.minutes:g} minutes" if self.plan.minutes else ""
            event = {"event": "playing", "iterations": self.plan.iterations, "limit": limit}
        self.tell({**event, "runners": self.runners})
