"""One rank of a two-rank training under torchrun; saves what it saw and what it ended with.

torchrun --nproc-per-node 2 tests/support/ddp_rank.py SHARDS OUT
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

import torch
from safetensors.torch import save_file

from dali_pipes.config import LoaderConfig
from dali_pipes.loader import TrainLoader
from train.recipes import RECIPES
from train.training import train
from train.world import start_world, stop_world


def main() -> None:
    shards, out = map(Path, sys.argv[1:])
    config = RECIPES["demo-cpu"]()
    config = dataclasses.replace(
        config,
        views=dataclasses.replace(config.views, jitter_p=1.0),
        in_dist=shards,
        out=out,
        epochs=2,
        global_batch=12,
        checkpoint_steps=10,
        device="cpu",
        optim=dataclasses.replace(config.optim, warmup_epochs=0.5),
        loader=LoaderConfig(threads=1),
        model=dataclasses.replace(config.model, width=24, depth=2),
        head=dataclasses.replace(config.head, prototypes=32, hidden=32, bottleneck=16),
    )
    seen_ids, seen_draws = [], []
    next_batch = TrainLoader.__next__

    def record(loader: TrainLoader):
        batch = next_batch(loader)
        seen_ids.append(batch.in_dist_ids.clone())
        params = loader._plan.params(batch.step)
        seen_draws.append(torch.tensor([group.view.brightness[0, 0] for group in params]))
        return batch

    TrainLoader.__next__ = record
    world = start_world(config.device, config.stall_s)
    state = train(config, world)
    assert state is not None
    save_file(
        {
            **{name: value.contiguous() for name, value in state.network_tensors().items()},
            "seen_ids": torch.stack(seen_ids),
            "seen_draws": torch.stack(seen_draws),
        },
        out.parent / f"rank-{os.environ['RANK']}.safetensors",
    )
    stop_world()


if __name__ == "__main__":
    main()
