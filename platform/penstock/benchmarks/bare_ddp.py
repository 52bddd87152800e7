"""The baseline of `penstock bench train`: the loop one would write by hand, without Ray and checkpoints.

`python -m penstock.benchmarks.bare_ddp RUN_FOLDER STEPS WARM` trains the same task on the same batches with
torch's DistributedDataParallel over gloo, and prints {"cpu_s": …, "wall_s": …} a step of rank 0, the first
WARM steps left out.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from penstock import catalog
from penstock.config import from_dict
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.order import global_batch, own_slice, steps_per_epoch
from penstock.training.gradients import Root, focus
from penstock.training.run import Run
from penstock.workload import resolve


def loop(rank: int, world: int, folder: str, meet: str, steps: int, warm: int, result: Any) -> None:
    run = Run.at(Path(folder))
    torch.set_num_threads(run.spec.threads)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world)
    workload = catalog.find_reference(run.spec.workload, run.spec.reference)
    config = from_dict(workload.config, run.spec.config)
    rows = Dataset.load(run.dataset_path).train
    torch.manual_seed(0)
    task = resolve(workload.trainers[workload.trainer(config)])(config, Dataset.load(run.dataset_path).schema)
    # what one writes for two losses: a DDP module and an optimiser each, the other side frozen meanwhile
    objectives = task.objectives()
    moved = {each.name: [one for one in each.moves if one.requires_grad] for each in objectives}
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rowwise_adagrad": torch.optim.Adagrad,
    }
    models, optimisers, schedules = [], [], []
    for objective in objectives:
        focus(moved, objective.name)
        models.append(DistributedDataParallel(Root(task, [objective]), gradient_as_bucket_view=True))
        optimisers.append(
            kinds[config.optim.kind](
                moved[objective.name], lr=config.optim.lr, weight_decay=config.optim.weight_decay, fused=True
            )
        )
        schedules.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[-1], steps))
    batch, per_epoch = config.train.batch, steps_per_epoch(len(rows), config.train.batch)
    for step in range(steps):
        if step == warm:
            cpu, wall = time.process_time(), time.perf_counter()
        epoch, k = divmod(step, per_epoch)
        if k == 0:
            draws = ItemDraws(0, epoch)
        whole = global_batch(0, epoch, k, len(rows), batch)
        items = task.collate(Items(rows, own_slice(whole, rank, world), draws))
        for objective, model, optimiser, schedule in zip(
            objectives, models, optimisers, schedules, strict=True
        ):
            focus(moved, objective.name)
            optimiser.zero_grad(set_to_none=False)
            loss, _weight = model(objective.name, items)
            (loss * (world / len(whole))).backward()
            if config.optim.clip:
                torch.nn.utils.clip_grad_norm_(moved[objective.name], config.optim.clip)
            optimiser.step()
            schedule.step()
    if rank == 0:
        result["cpu_s"] = (time.process_time() - cpu) / (steps - warm)
        result["wall_s"] = (time.perf_counter() - wall) / (steps - warm)
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    folder, steps, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    world = Run.at(Path(folder)).spec.workers
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, tempfile.TemporaryDirectory() as meeting:
        result = manager.dict()
        ranks = [
            context.Process(target=loop, args=(rank, world, folder, f"{meeting}/meet", steps, warm, result))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            sys.exit("a rank failed; see above")
        print(json.dumps(dict(result)))


if __name__ == "__main__":
    main()
