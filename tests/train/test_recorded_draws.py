"""A step draws the numbers of recorded runs: numpy computes them here from plain seeds.

Another number would make a resumed run differ from the run that it goes on with.
"""

import numpy as np
import torch

from dali_pipes.batch import ViewSpec
from dali_pipes.negatives import CHOICE
from dali_pipes.step_plan import StepPlan, StreamOrder
from dali_pipes.view_params import draw_view_params
from train.networks.stochastic_depth import draw_branch_scales

SEED, STEP, BATCH = 11, 3, 8


def test_views_and_choices_of_negatives(rgb_set) -> None:
    plan = StepPlan(rgb_set, None, ViewSpec(), "3*rot-in|pixperm-in", StreamOrder(BATCH, SEED))
    groups = plan.params(STEP)
    kinds = ["global-1", "global-2", "global-any", "local", "local"]
    assert [draws.group.kind for draws in groups] == kinds
    source_hw = rgb_set.manifest.sample_shape[:2]
    for number, draws in zip((0, 1, 3, 2, 4), groups, strict=True):
        rng = np.random.default_rng([SEED, 2, STEP, number])
        shape = draws.group.count, BATCH
        expected = draw_view_params(rng, plan.spec, draws.group.kind, shape, source_hw)
        assert np.array_equal(draws.view.crop_start, expected.crop_start)
    choice = np.random.default_rng([SEED, 3, STEP, 0]).choice(2, BATCH, p=[0.75, 0.25])
    assert np.array_equal(groups[2].shift[CHOICE], choice[None])


def test_stochastic_depth() -> None:
    drawn = np.random.default_rng([SEED, 4, STEP]).random((2, 2, 5, BATCH), np.float32)
    stays = np.array([1, 0.5], np.float32)[:, None, None, None]
    scales = draw_branch_scales(2, 0.5, 5, BATCH, SEED, STEP)
    assert torch.equal(scales, torch.from_numpy((drawn < stays) / stays))
