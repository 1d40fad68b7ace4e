"""Train a detector: `train/main.py RECIPE --in-dist SHARDS --out RUN [--aux SHARDS] [--FIELD X]`.

One process, or the ranks of `torchrun --nproc-per-node N train/main.py ...`. The same command goes
on with a run that was cut short. `--help` names the recipes, `RECIPE --help` every field.
"""

import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

here = Path(__file__).absolute().parent
sys.path[:] = [str(here.parent)] + [p for p in sys.path if p != str(here)]
# On a CPU shared with the loader's threads, or with anything else, OpenMP threads that spin for
# long when they wait take the time of those they wait for: twice the time a step, measured.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import tyro
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dali_pipes.batch import GLOBAL_VIEWS, Batch
from dali_pipes.loader import TrainLoader
from dali_pipes.plan import StreamOrder
from shards import cli
from shards.cli import UserError
from shards.reader import ShardSet
from train.checkpoint import latest_checkpoint, save_checkpoint
from train.config import RunConfig
from train.ema import update_teacher
from train.losses import negative_loss, positive_loss, update_centre
from train.meters import Meters
from train.optim import apply_schedule, clip_each
from train.recipes import RECIPES
from train.run_folder import check_run, start_run
from train.schedules import StepValues, values_at
from train.state import TrainState, seed_step
from train.world import World, start_world, stop_world


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command, join the ranks, train."""
    recipes = tyro.extras.subcommand_type_from_defaults(
        {name: recipe() for name, recipe in RECIPES.items()},
        {name: recipe.__doc__ or "" for name, recipe in RECIPES.items()},
    )
    config = cli.parse(
        recipes,
        argv,
        prog="train/main.py",
        description=__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
    config.check()
    world = start_world(config.device)
    try:
        train(config, world)
    finally:
        stop_world()


def train(config: RunConfig, world: World) -> TrainState:
    """Run, or go on with, the training of `config`, to its last step."""
    check_run(config)

    # ---- data ---------------------------------------------------------------------------------
    in_dist = ShardSet.open(config.in_dist)
    aux = ShardSet.open(config.aux) if config.aux else None
    order = StreamOrder(config.global_batch, config.seed, world.rank, world.world_size)
    loader = TrainLoader(
        in_dist,
        aux,
        config.views,
        config.negatives,
        order,
        world.device,
        config.loader,
        # Autocast would round the views to this before anything else.
        torch.bfloat16 if config.precision == "bf16" else torch.float32,
    )
    total_steps = config.epochs * loader.steps_per_epoch

    # ---- state, new or resumed ----------------------------------------------------------------
    state = TrainState.start(config, world.device)
    world.wait_for_all()
    if world.is_main:
        start_run(config)
    checkpoint = latest_checkpoint(config.out)
    world.check_equal("--in-dist and --aux", str(loader.state_dict()["manifests"]))
    world.check_equal("--out", f"{checkpoint and (checkpoint.step, checkpoint.sha256)}")
    if checkpoint is not None:
        loader.load_state_dict(checkpoint.restore(state), elastic=config.elastic)
        say(world, f"resuming {config.out} at step {state.step} of {total_steps}")
    student: torch.nn.Module = state.student
    if world.world_size > 1:
        student = DistributedDataParallel(
            student, device_ids=[world.device] if world.device.type == "cuda" else None
        )

    # ---- the loop -----------------------------------------------------------------------------
    meters = Meters(config.out, world, state.step, total_steps, config.global_batch)
    with contextlib.closing(meters), contextlib.closing(loader):
        while state.step < total_steps:
            waited_from = time.perf_counter()
            batch = next(loader)
            wait_s = time.perf_counter() - waited_from
            values = values_at(config, state.step, loader.steps_per_epoch)
            meters.add(train_step(config, world, state, student, batch, values), wait_s)

            epoch, step_in_epoch = divmod(state.step, loader.steps_per_epoch)
            last = state.step == total_steps
            saving = step_in_epoch == 0 and (last or epoch % config.checkpoint_epochs == 0)
            if saving or state.step % config.log_steps == 0:
                reported = meters.report(
                    {"epoch": state.step / loader.steps_per_epoch, **dataclasses.asdict(values)}
                )
                if not math.isfinite(reported["loss"]):
                    raise UserError(
                        f"the loss is {reported['loss']} before step {state.step}; the checkpoints "
                        f"in {config.out} are from before; try a lower --optim.lr-base"
                    )
            if saving:
                started_s = time.perf_counter()
                if world.is_main:
                    save_checkpoint(config.out, state, loader.state_dict(), config)
                meters.pause(time.perf_counter() - started_s)
    say(world, f"done: {config.out} has {state.step} steps")
    return state


def train_step(
    config: RunConfig,
    world: World,
    state: TrainState,
    student: torch.nn.Module,
    batch: Batch,
    values: StepValues,
) -> dict[str, Tensor]:
    """One step of the method; `student` is `state.student`, or DDP around it.

    Legend: S negative sources, N local views, B images, K prototypes.

    Returns:
        Scalars on the device; nothing here waits for it.
    """
    state.student.train()
    seed_step(config.seed, state.step, world.rank)
    apply_schedule(state.optimizer, values)
    loss_config = config.loss

    # ---- forward: the student takes all views, the teacher the positive global ones ------------
    with torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        flat_global, flat_local = student(
            [batch.global_views.flatten(0, 1), batch.local_views.flatten(0, 1)]
        )
        with torch.no_grad():
            (flat_teacher,) = state.teacher([batch.pos_global.flatten(0, 1)])
    student_global = flat_global.unflatten(0, batch.global_views.shape[:2])  # [2 + S, B, K]
    student_local = flat_local.unflatten(0, batch.local_views.shape[:2])  # [N (1 + S), B, K]
    teacher = flat_teacher.unflatten(0, batch.pos_global.shape[:2])  # [2, B, K]

    # ---- loss (Eq. 3-5) -----------------------------------------------------------------------
    locals_ = batch.local_positives
    positive = positive_loss(
        torch.cat([student_global[:GLOBAL_VIEWS], student_local[:locals_]]),
        teacher,
        state.centre,
        loss_config.student_temp,
        values.teacher_temp,
    )
    loss, report = positive, {"positive": positive}
    if batch.negative_sources:
        negative = negative_loss(
            torch.cat([student_global[GLOBAL_VIEWS:], student_local[locals_:]]),
            loss_config.student_temp,
        )
        loss = positive + values.negative_weight * negative
        report["negative_kl"] = negative - math.log(config.head.prototypes)

    # ---- update -------------------------------------------------------------------------------
    loss.backward()
    clip_each(state.student.parameters(), config.optim.clip_norm)
    if values.last_layer_frozen:
        for parameter in state.student.head.prototypes.parameters():
            parameter.grad = None
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    update_teacher(state.teacher, state.student, values.ema_momentum)
    update_centre(state.centre, teacher, loss_config.centre_momentum, world)
    state.step += 1
    return {"loss": loss, **report}


def say(world: World, text: str) -> None:
    """Print once, not once a rank."""
    if world.is_main:
        print(text, flush=True)


if __name__ == "__main__":
    cli.run(main)
