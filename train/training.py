"""A training run from start to end: join the ranks, start or resume the run, take its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.errors import UserError
from shards.reader import ShardSet
from train.checkpoint import CheckpointWriter, latest_checkpoint
from train.config import RunConfig
from train.loss_scale import LateReader
from train.networks.batch_norm import share_statistics
from train.networks.pretrained import load_init
from train.reports.dry_run import estimate
from train.reports.meters import Meters
from train.reports.run_notes import write_notes
from train.reports.set_sizes import check_images, told_of_sizes
from train.run_folder import check_ranks, check_run, locked_run, start_run
from train.schedules import values_at
from train.state import TrainState
from train.step import train_step
from train.test_set import check_test_set
from train.watch.collapse import Health
from train.watch.nonfinite_report import describe_skipped
from train.watch.stop_request import STOPPED_EARLY, StopRequest
from train.watch.watchdog import Watchdog
from train.world import World, start_world, stop_world


def run(config: RunConfig) -> int:
    """Join the ranks and train.

    Returns:
        The exit status of the process: `STOPPED_EARLY` if the run was asked to stop before its end,
        otherwise 0. Under torchrun it is always 0, because torchrun takes any other status for a
        crash.
    """
    world = start_world(config.device, config.stall_s)
    try:
        state = train(config, world)
    finally:
        stop_world()
    return STOPPED_EARLY if state is None and not world.under_torchrun else 0


def train(config: RunConfig, world: World) -> TrainState | None:
    """Start or resume the run of `config`.

    Returns:
        The state after the last step, or None if the run was asked to stop before that. With
        `dry_run`, the state after the few steps that were measured.
    """
    check_run(config)
    check_ranks(config, world)
    check_test_set(config, world)
    loader = build_loader(config, world)
    state = TrainState.start(config, world.device)
    init = "random weights, or a checkpoint"
    if config.model.init and latest_checkpoint(config.out) is None:
        init = load_init(config.model, state.student.backbone, state.teacher.backbone)
    world.check_equal("--model.init, or --out", init)
    student = wrap_student(config, world, state)
    total_steps = config.epochs * loader.steps_per_epoch
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(loader))
        if config.dry_run:
            say(world, estimate(config, world, state, student, loader))
            return state

        # ---- a new run, or the rest of one ----------------------------------------------------
        if world.is_main:
            stack.enter_context(locked_run(config.out))
            check_run(config)
            start_run(config)
        world.wait_for_all()
        checkpoint = latest_checkpoint(config.out)
        world.check_equal("--in-dist and --aux", str(loader.state_dict()["manifests"]))
        world.check_equal("--out", f"{checkpoint and (checkpoint.step, checkpoint.sha256)}")
        if checkpoint is not None:
            loader.load_state_dict(checkpoint.restore(config, state), elastic=config.elastic)
            if changed := checkpoint.other_versions():
                say(world, f"warning: the checkpoint was written with {changed}: bits may differ")
            say(world, f"resuming {config.out} at step {state.step} of {total_steps}")

        # ---- the loop -------------------------------------------------------------------------
        stop = stack.enter_context(contextlib.closing(StopRequest()))
        meters = stack.enter_context(contextlib.closing(Meters(config, world, state, total_steps)))
        writer = stack.enter_context(contextlib.closing(CheckpointWriter(config)))
        watchdog = stack.enter_context(contextlib.closing(Watchdog(world, config.stall_s)))
        control, stopping = LateReader(world.device), False
        health = Health(config, loader.steps_per_epoch)
        while state.step < total_steps and not stopping:
            watchdog.at(state.step, "waiting for views")
            waited_from = time.perf_counter()
            batch = next(loader)
            wait_s = time.perf_counter() - waited_from
            watchdog.at(state.step, "computing")
            values = values_at(config, state.step, loader.steps_per_epoch)
            result = train_step(config, world, state, student, batch, values, stop.asked)
            meters.add(result, wait_s)

            asked, skips_in_a_row = control.read(result.control) or (0.0, 0.0)
            if skips_in_a_row > config.skips_in_a_row:
                raise UserError(describe_skipped(config, world, state, batch, values))
            stopping = asked > 0
            is_due = state.step % config.checkpoint_steps == 0 or state.step == total_steps
            saving = stopping or is_due
            if saving or state.step % config.log_steps == 0:
                epoch = state.step / loader.steps_per_epoch
                meters.report({"epoch": epoch, **dataclasses.asdict(values)}, health)
                writer.check()
            if saving and world.is_main:
                watchdog.at(state.step, "saving")
                writer.save(state, loader.state_dict())
        watchdog.close()  # the last save may take rank 0 longer than `stall_s`
        writer.wait()
        if world.is_main:
            write_notes(config, world, state, total_steps)
        meters.close()  # remove the progress bar before the last line is printed
        if state.step < total_steps:
            say(
                world, f"stopped at step {state.step} of {total_steps}; the same command resumes it"
            )
            return None
        say(world, f"done: {config.out} has {state.step} steps")
    return state


def build_loader(config: RunConfig, world: World) -> TrainLoader:
    """Open the training sets, warn if they are small, and return the loader of the rank's views."""
    in_dist = ShardSet.open(config.in_dist)
    aux = ShardSet.open(config.aux) if config.aux else None
    check_images("--in-dist", in_dist)
    if aux is not None:
        check_images("--aux", aux)
    loader = TrainLoader(
        in_dist,
        aux,
        config.views,
        config.strategy,
        StreamOrder(
            config.global_batch,
            config.seed,
            world.rank,
            world.world_size,
            config.compat.aux_replayed,
        ),
        world.device,
        config.loader,
        # Autocast would round float32 views to bfloat16 anyway, before the first layer.
        torch.bfloat16 if config.precision == "bf16" else torch.float32,
    )
    aux_images = None if aux is None else len(aux)
    for line in told_of_sizes(config, len(in_dist), aux_images, loader.steps_per_epoch):
        say(world, f"warning: {line}")
    return loader


def wrap_student(config: RunConfig, world: World, state: TrainState) -> nn.Module:
    """Return the student as `train_step` calls it.

    With several ranks, DistributedDataParallel wraps it to average its gradients over the ranks.
    With `config.compile` it is compiled at its first call.
    """
    student: nn.Module = state.student
    if world.world_size > 1:
        share_statistics(config, world, state.student, state.teacher)
        student = DistributedDataParallel(
            student, device_ids=[world.device] if world.device.type == "cuda" else None
        )
    if config.compile:
        student.compile()
    return student


def say(world: World, text: str) -> None:
    """Print a line on the main rank only."""
    if world.is_main:
        print(text, flush=True)
