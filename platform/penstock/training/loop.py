"""The training loop. It knows no Ray: given a run and a world it trains alone in this process or as one of
several workers, and goes on from the newest checkpoint wherever an earlier attempt ended."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from torch import Tensor

from penstock.config import Train
from penstock.data import order
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.errors import DataError, RunFailed
from penstock.training import checkpoint
from penstock.training.checkpoint import AsyncSaver
from penstock.training.device import computing, to_device
from penstock.training.health import PULSE
from penstock.training.packing import pack, unpack
from penstock.training.progress import Clock, Outcome, Progress
from penstock.training.run import Run
from penstock.training.step import WINDOW, MicroBatch, Stepper, reseed
from penstock.training.validation import validate
from penstock.training.weights import start_from, to_publish, weights_of
from penstock.training.world import World
from penstock.workload import Task, Workload, resolve

OnEvent = Callable[[dict[str, Any]], None]


def train(
    workload: Workload[Any],
    config: Any,
    dataset: Dataset,
    run: Run,
    world: World,
    on_event: OnEvent | None = None,
    start_weights: Mapping[str, Tensor] | None = None,
    until: int | None = None,
) -> Outcome | None:
    """Train what `run.spec` asks for, from its newest checkpoint on, to the end; every worker calls it.
    `until`: pause after that many validations, with a checkpoint, and give None unless that was the end. A
    run that was paused goes on as if it never had been: the schedule is that of the whole run.

    The leading worker holds the run's fence, logs metrics and commits checkpoints; only there `on_event`
    is told: `start` (or `resume`), `start_from`, `step`, `validation`, `checkpoint`, `warning`, `done`.
    `start_weights` stand in for those of `run.spec.start_from`. RunFailed when a loss is not finite.
    """
    tell: OnEvent = on_event if on_event is not None and world.leads else lambda event: None
    with computing(run.spec.threads, world), run.writer_fence() if world.leads else nullcontext():
        return Training(workload, config, dataset, run, world, tell, start_weights, until).go_on()


class Training:
    """One attempt at a run, on one worker."""

    def __init__(
        self,
        workload: Workload[Any],
        config: Any,
        dataset: Dataset,
        run: Run,
        world: World,
        tell: OnEvent,
        start_weights: Mapping[str, Tensor] | None,
        until: int | None,
    ) -> None:
        self.workload, self.config, self.dataset = workload, config, dataset
        self.run, self.world, self.tell = run, world, tell
        self.train: Train = config.train
        self.clock = Clock()
        self._draws: tuple[int, ItemDraws] | None = None
        self.seed = run.spec.seed
        self.items = len(dataset.train)
        if not self.items:
            raise DataError(f"data set {dataset.id} has no items to train on; check its split")
        self.per_epoch = order.steps_per_epoch(self.items, self.train.batch)
        self.total = self.per_epoch * self.train.epochs
        each = self.per_epoch * self.train.validate_every
        self.stop = self.total if until is None else min(until * each, self.total)
        reseed(self.seed, -1, 0)  # the first weights, the same on every worker
        self.task: Task[Any] = resolve(workload.trainers[workload.trainer(config)])(config, dataset.schema)
        found = self._newest()
        if found is None:
            self._start_from(start_weights)
        self.stepper = Stepper(self.task, config.optim, self.train, world, self.seed, self.total)
        self.progress = Progress()
        if found is not None:
            state = unpack(*found.load())
            self.progress = Progress(**state.pop("progress"))
            self.stepper.load(state)
        if world.leads:
            run.metrics.truncate(found.metrics_bytes if found is not None else 0)
            if until is None or not self.reached:
                run.log_attempt(self.progress.step, world.size)

    @property
    def reached(self) -> bool:
        """Whether there is nothing left to do."""
        return self.progress.finished or self.progress.step >= self.stop

    def _newest(self) -> checkpoint.Checkpoint | None:
        """The checkpoint to go on from: the leading worker chooses, the others follow."""

        def warn(line: str) -> None:
            self.tell({"event": "warning", "message": line})

        found = self.run.newest_checkpoint(warn) if self.world.leads else None
        chosen: checkpoint.Checkpoint | None = self.world.broadcast(found)
        return chosen.at(self.run.checkpoints) if chosen is not None else None

    def _start_from(self, given: Mapping[str, Tensor] | None) -> None:
        if given is None and self.run.spec.start_from is not None:
            given = weights_of(self.run, self.run.spec.start_from)
        if given is not None:
            fresh = start_from(self.task.module, given)
            self.tell({"event": "start_from", "fresh": fresh})

    def go_on(self) -> Outcome | None:
        progress = self.progress
        self.tell(
            {
                "event": "resume" if progress.step else "start",
                "step": progress.step,
                "steps": self.total,
                "epochs": self.train.epochs,
                "workers": self.world.size,
            }
        )
        # None on the workers that do not write
        saving = (
            AsyncSaver(self.run.checkpoints, self.train.keep_checkpoints)
            if self.world.leads
            else nullcontext()
        )
        with saving as saver:
            self.clock.skip()
            while not self.reached:
                step = progress.step
                PULSE.begin_step()
                self._step(step)
                PULSE.end_step()
                self._after(step, saver)
        if not progress.finished:
            self.tell({"event": "paused", "step": progress.step, "steps": self.total})
            return None
        outcome = self._outcome()
        speed = {"items_per_s": outcome.items_per_s, "first_step_s": outcome.first_step_s}
        self.tell({"event": "done", "step": outcome.steps, **speed})
        return outcome

    def _step(self, step: int) -> None:
        epoch, k = divmod(step, self.per_epoch)
        batch = order.global_batch(self.seed, epoch, k, self.items, self.train.batch)
        rank, size = self.world.rank, self.world.size
        reseed(self.seed, step, rank)
        draws = self._draws_of(epoch)
        low, high = len(batch) * rank // size, len(batch) * (rank + 1) // size
        micro, parts = [], self.train.accumulate
        for part in range(parts):
            first, end = low + (high - low) * part // parts, low + (high - low) * (part + 1) // parts
            collated = self.task.collate(Items(self.dataset.train, batch[first:end], draws))
            micro.append(
                MicroBatch(to_device(collated, self.world, self.train.precision), first, end - first)
            )
        self.stepper.move(step, micro, len(batch))
        self.progress.step = step + 1
        self.clock.stepped(len(batch))

    def _draws_of(self, epoch: int) -> ItemDraws:
        if self._draws is None or self._draws[0] != epoch:
            self._draws = (epoch, ItemDraws(self.seed, epoch))
        return self._draws[1]

    def _after(self, step: int, saver: AsyncSaver | None) -> None:
        """What is due after a step: a function of the step alone, so that a resumed run does the same."""
        done = step + 1
        epoch_ends, run_ends = done % self.per_epoch == 0, done == self.total
        saves = epoch_ends or done % self.train.checkpoint_every == 0
        if saves or done % WINDOW == 0:
            self._log_losses()
        if saves:
            self.stepper.share_buffers()
        if run_ends or (epoch_ends and done // self.per_epoch % self.train.validate_every == 0):
            self._validate()
        if saves:
            self.progress.finished |= run_ends
            self._save(saver)
        if saves or done % WINDOW == 0:
            self.clock.skip()

    def _log_losses(self) -> None:
        window = self.stepper.losses()
        last = self.progress.step
        lines = []
        for step, losses in enumerate(window, last - len(window) + 1):
            whole = math.fsum(losses.values())
            if not math.isfinite(whole):
                raise RunFailed(
                    f"run {self.run.name!r}: the loss of step {step} is {whole}; lower optim.lr or optim.clip"
                )
            lines.append(
                {"step": step, "loss": whole, **{f"loss/{name}": loss for name, loss in losses.items()}}
            )
        if self.world.leads and lines:
            self.run.metrics.append(lines)
            self.tell(
                {
                    "event": "step",
                    "step": last,
                    "steps": self.total,
                    "epoch": -(-last // self.per_epoch),
                    "epochs": self.train.epochs,
                    "loss": lines[-1]["loss"],
                    "items_per_s": self.clock.items_per_s,
                }
            )

    def _validate(self) -> None:
        progress, goal = self.progress, self.workload.goal
        weights = {name: tensor.detach().cpu() for name, tensor in self.stepper.weights().items()}
        metrics, snapshot = validate(self.workload, self.config, self.dataset, weights, self.world)
        value = metrics.get(goal.metric, math.nan)
        if goal.better(value, progress.best_goal):
            progress.best_step, progress.best_goal, progress.stale = progress.step, value, 0
        else:
            progress.stale += 1
            progress.finished = 0 < self.train.patience <= progress.stale
        line = {"step": progress.step, "epoch": -(-progress.step // self.per_epoch), "validation": metrics}
        if self.world.leads:
            self.run.metrics.append([line])
            if snapshot is not None:
                self.run.save_snapshot(progress.step, snapshot)
        self.tell({"event": "validation", **line, "goal": goal.metric, "best_step": progress.best_step})

    def _save(self, saver: AsyncSaver | None) -> None:
        state = self.stepper.state()
        if saver is not None:
            tensors, rest = pack({**state, "progress": asdict(self.progress)})
            length = self.run.metrics.sync()
            best = {self.progress.best_step} - {0}
            saver.save(self.progress.step, tensors, rest, length, keep=best)
            self.tell({"event": "checkpoint", "step": self.progress.step})

    def _outcome(self) -> Outcome:
        progress = self.progress
        if self.train.publish == "best" and progress.best_step not in (0, progress.step):
            self.world.barrier()
            kept = checkpoint.at(self.run.checkpoints, progress.best_step)
            weights = to_publish(unpack(*kept.load()))
        else:
            live = self.stepper.weights()
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in live.items()}
        curve = self.run.metrics.loss_curve().astype("<f8").tobytes() if self.world.leads else b""
        return Outcome(
            steps=progress.step,
            best_step=progress.best_step,
            goal=progress.best_goal,
            weights=weights,
            loss_curve_sha256=self.world.broadcast(hashlib.sha256(curve).hexdigest()),
            items_per_s=self.clock.items_per_s,
            first_step_s=self.clock.first_step_s,
        )
