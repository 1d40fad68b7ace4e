"""A step, compared with plain computations: loss, micro-batches, skipped steps, loss scale."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import train.loss_scale
import train.step
from dali_pipes.batch import Batch
from tests.support.host_waits import HostWaits, counted_reads
from tests.support.step_cases import (
    ALONE,
    CPU,
    STEPS_PER_EPOCH,
    plain_feature,
    random_batch,
    run_steps,
    take_step,
    tiny_run,
)
from train.config import CompatConfig, RunConfig
from train.loss_scale import LAG_STEPS, LateReader
from train.networks.stochastic_depth import draw_branch_scales
from train.objective import AUTOCAST, micro_batches, objective
from train.optim import gradients_of
from train.reports.meters import METRICS_FILE_NAME, Meters
from train.schedules import values_at
from train.state import TrainState
from train.step import StepResult, train_step
from train.world import World

# ---- the loss, and what is measured ---------------------------------------------------------


@dataclass
class Plain:
    """The responses of a step, one entry for each view, in the networks' dtype."""

    log_p: list[Tensor]
    """The student's log probabilities for each view, [B, K]: global views, then local views."""
    q: list[Tensor]
    """The teacher's probabilities for the two positive global views, [B, K]."""
    teacher: list[Tensor]
    """The teacher's logits for them, [B, K]."""
    features: list[Tensor]
    """The teacher's features of them, [B, d]."""


def plain_responses(config: RunConfig, state: TrainState, batch: Batch, temp: float) -> Plain:
    views = [*batch.global_views, *batch.local_views]
    scales = draw_branch_scales(
        config.model.depth,
        config.model.drop_path,
        len(views),
        config.global_batch,
        config.seed,
        batch.step,
    )
    student, teacher = state.student.eval(), state.teacher
    log_p = [
        (
            student.head(
                plain_feature(
                    student.backbone, view, None if scales is None else scales[:, :, number]
                )
            )
            / config.loss.student_temp
        ).log_softmax(-1)
        for number, view in enumerate(views)
    ]
    with torch.no_grad():
        features = [plain_feature(teacher.backbone, view) for view in views[:2]]
        logits = [teacher.head(feature) for feature in features]
        q = [((out - state.centre) / temp).softmax(-1) for out in logits]
    return Plain(log_p, q, logits, features)


def split_views(plain: Plain, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Return the student's responses to positive views, and to negative views."""
    globals_, locals_ = len(batch.global_views), batch.local_positives
    of_global, of_local = plain.log_p[:globals_], plain.log_p[globals_:]
    return of_global[:2] + of_local[:locals_], of_global[2:] + of_local[locals_:]


def started(config: RunConfig) -> TrainState:
    """Return a state whose teacher, centre and prototypes have moved from the start."""
    state = TrainState.start(config, CPU)
    torch.manual_seed(5)
    with torch.no_grad():
        for network in (state.student, state.teacher):
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        state.centre.normal_(std=0.1)
    return state


@pytest.mark.parametrize("drop_path", [0.0, 0.6])
@pytest.mark.parametrize("sources", [0, 1, 2])
@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_the_loss_and_its_gradient_are_eq_3_to_5(in_float64, norm, sources, drop_path) -> None:
    config = tiny_run(loss__norm=norm, loss__negative_weight=0.3, model__drop_path=drop_path)
    state, batch = started(config), random_batch(config, 2, sources)
    values = values_at(config, 2, STEPS_PER_EPOCH)
    plain = plain_responses(config, state, batch, values.teacher_temp)
    positives, negatives = split_views(plain, batch)
    assert (len(positives), len(negatives)) == (4, 3 * sources)

    l_pos, pairs = 0, 0
    for g, q in enumerate(plain.q):
        for v, log_p in enumerate(positives):
            if v != g:
                l_pos, pairs = l_pos - (q * log_p).sum(-1).mean(), pairs + 1
    l_neg = sum(-log_p.sum(-1).mean() / 32 for log_p in negatives)
    if norm == "mean":
        l_pos, l_neg = l_pos / pairs, l_neg / max(1, len(negatives))
    expected = l_pos + 0.3 * l_neg
    expected.backward()
    theirs = [gradient.clone() for gradient in gradients_of(state.student)]
    state.student.zero_grad()

    state.student.train()
    (part,) = micro_batches(config, ALONE, 2, batch, config.model.depth)
    loss, _ = objective(config, state, state.student, part, values)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    ours = gradients_of(state.student)
    assert len(ours) == len(list(state.student.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() < 1e-12 * max(1.0, float(other.abs().max()))


def test_a_step_reports_and_follows_what_it_saw(in_float64) -> None:
    config = tiny_run(loss__norm="sum", loss__negative_weight=0.3, loss__centre_momentum=0.5)
    state, batch = started(config), random_batch(config, 0)
    before = {name: value.numpy().copy() for name, value in state.running_tensors().items()}
    temp = values_at(config, 0, STEPS_PER_EPOCH).teacher_temp
    with torch.no_grad():
        plain = plain_responses(config, state, batch, temp)
    positives, negatives = ([x.numpy() for x in some] for some in split_views(plain, batch))
    q = [x.numpy() for x in plain.q]

    def entropy(log_p: list[np.ndarray]) -> float:
        return float(np.mean([-(np.exp(x) * x).sum(-1) for x in log_p]))

    pairs = [(g, v) for g in range(2) for v in range(4) if g != v]
    positive = np.mean([-(q[g] * positives[v]).sum(-1).mean() for g, v in pairs])
    negative = np.mean([-x.mean() for x in negatives])
    direction = np.concatenate([x.numpy() for x in plain.features])
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    usage = 0.99 * before["usage"] + 0.01 * np.mean(q, (0, 1))
    expected = {
        "loss": len(pairs) * positive + 0.3 * len(negatives) * negative,
        "positive": positive,
        "negative_kl": negative - math.log(32),
        "teacher_entropy": entropy([np.log(x) for x in q]),
        "kl": positive - entropy([np.log(x) for x in q]),
        "positive_entropy": entropy(positives),
        "negative_entropy": entropy(negatives),
        "spread": 1 - np.square(direction.mean(0)).sum(),
        "occupied": (usage > 1 / 32).sum(),
    }
    result = take_step(config, state, batch)
    ours = {name: value.item() for name, value in result.values.items()}
    assert ours == {name: pytest.approx(value, rel=1e-10) for name, value in expected.items()}
    assert result.counted.item() == 1 and result.control.tolist() == [0, 0]
    centre = 0.5 * before["centre"] + 0.5 * np.mean([x.numpy() for x in plain.teacher], (0, 1))
    for name, value in {
        "centre": centre,
        "usage": usage,
        "positive": 0.9 * before["positive"] + 0.1 * positive,
    }.items():
        assert np.abs(state.running_tensors()[name].numpy() - value).max() < 1e-13


def test_a_step_speaks_float32(monkeypatch) -> None:
    config = tiny_run(precision="bf16")
    result = take_step(config, TrainState.start(config, CPU), random_batch(config, 0))
    said = [result.counted, result.control, *result.values.values()]
    assert {value.dtype for value in said} == {torch.float32}


def test_views_may_all_be_global(in_float64) -> None:
    config = tiny_run(views__local_views=0, model__drop_path=0.5)
    state, batch = TrainState.start(config, CPU), random_batch(config, 0)
    temp = values_at(config, 0, STEPS_PER_EPOCH).teacher_temp
    with torch.no_grad():
        plain = plain_responses(config, state, batch, temp)
    crossed = (plain.q[0] * plain.log_p[1] + plain.q[1] * plain.log_p[0]).sum(-1)
    expected = -crossed.mean() / 2 - plain.log_p[2].mean()
    loss = take_step(config, state, batch).values["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


# ---- micro-batches --------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "sum": {"loss__norm": "sum"},
    "adaptive lambda": {"loss__negative_adaptive": True},
    "quirks": {"compat": CompatConfig(centre_first_rows=True, loss_x1_5=True)},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("micro_batch", [1, 3])  # 3 leaves 2 of 5 images
def test_micro_batches_add_up_to_the_batch(in_float64, micro_batch, options) -> None:
    whole = tiny_run(model__drop_path=0.5, **options)
    parts = tiny_run(model__drop_path=0.5, micro_batch=micro_batch, **options)
    one, other = TrainState.start(whole, CPU), TrainState.start(parts, CPU)
    for step in range(3):
        batch = random_batch(whole, step)
        theirs, ours = take_step(whole, one, batch), take_step(parts, other, batch)
        for name, value in theirs.values.items():
            assert ours.values[name].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-12)
        for name, tensor in everything(one).items():
            assert (everything(other)[name] - tensor).abs().max() < 1e-10, name


# ---- skipped steps --------------------------------------------------------------------------


def everything(state: TrainState) -> dict[str, Tensor]:
    """Copy all tensors of a checkpoint, without the counts of the loss scale."""
    return {
        name: value.clone()
        for name, value in {**state.network_tensors(), **state.optimizer_tensors()}.items()
        if not name.startswith("scaler.")
    }


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def faulty(fault: str, state: TrainState, batch: Batch) -> list[Any]:
    """Put the fault into the step; return handles that remove it from the network."""
    if fault == "gradient":
        weight = state.student.backbone.blocks[0].mlp.fc1.weight

        def spoil(gradient: Tensor) -> Tensor:
            gradient = gradient.clone()
            gradient[1, 2] = math.nan
            return gradient

        return [weight.register_hook(spoil)]
    views = batch.global_views if fault != "local view" else batch.local_views
    views[-1, -1, 0, 3, 3] = math.nan if fault == "global view" else math.inf
    return []


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [0, 2])
@pytest.mark.parametrize("fault", ["global view", "local view", "infinite pixel", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(fault, micro_batch) -> None:
    config = tiny_run(micro_batch=micro_batch, model__drop_path=0.3)
    state = run_steps(config, 3)  # after the step with a learning rate of 0 and the frozen epoch
    before = everything(state)
    assert any(name.endswith("exp_avg") for name in before)
    for number in (1, 2):
        batch = random_batch(config, state.step)
        handles = faulty(fault, state, batch)
        result = take_step(config, state, batch)
        for handle in handles:
            handle.remove()
        assert_same_bits(everything(state), before)
        assert state.step == 3 + number
        assert result.counted.item() == 0
        assert {value.item() for value in result.values.values()} == {0}
        assert result.control.tolist() == [0, number]
        assert not gradients_of(state.student)  # no gradient is left for the next step
    # the next step equals the step of a run without the fault
    other = run_steps(config, 3)
    other.step = state.step
    batch = random_batch(config, state.step)
    result = take_step(config, state, batch)
    assert result.counted.item() == 1 and result.control.tolist() == [0, 0]
    assert take_step(config, other, batch).control.tolist() == [0, 0]
    assert_same_bits(everything(state), everything(other))
    moved = everything(state)
    for name in ("student.backbone.cls_token", "teacher.backbone.cls_token", "centre", "usage"):
        assert not torch.equal(moved[name], before[name])


def test_the_first_step_can_be_skipped() -> None:
    config = tiny_run()
    state, fresh = TrainState.start(config, CPU), TrainState.start(config, CPU)
    batch = random_batch(config, 0)
    faulty("global view", state, batch)
    take_step(config, state, batch)
    ours = everything(state)
    assert_same_bits({k: v for k, v in ours.items() if k in everything(fresh)}, everything(fresh))
    assert not any(ours[name].any() for name in state.optimizer_tensors())


@dataclass(frozen=True)
class WithAnother(World):
    """A world of two ranks, in which the test sets the values of the other rank."""

    finite: float = 1.0
    asked: float = 0.0
    says: float | None = None
    """The values of the other rank; None = the values of this rank."""

    def mean(self, value: Tensor) -> Tensor:
        theirs = value.clone() if self.says is None else torch.full_like(value, self.says)
        theirs[0], theirs[1] = self.finite, self.asked
        return (value + theirs) / 2


def test_a_fault_of_another_rank_stops_this_one_too() -> None:
    config = tiny_run()
    state = run_steps(config, 3)
    before = everything(state)
    batch, values = random_batch(config, 3), values_at(config, 3, STEPS_PER_EPOCH)
    for says in (math.nan, math.inf, 0.0):
        world = WithAnother(0, 1, CPU, finite=0.0, says=says)
        result = train_step(config, world, state, state.student, batch, values)
        assert result.counted.item() == 0
        assert_same_bits(everything(state), before)
    assert state.scaler.skips_in_a_row.item() == 3


def test_ranks_agree_on_a_request_to_stop() -> None:
    config = tiny_run()
    state = TrainState.start(config, CPU)
    batch, values = random_batch(config, 0), values_at(config, 0, STEPS_PER_EPOCH)
    for ours, theirs, stops in [(False, 0.0, False), (True, 0.0, True), (False, 1.0, True)]:
        world = WithAnother(0, 1, CPU, asked=theirs)
        result = train_step(config, world, state, state.student, batch, values, ours)
        assert (result.control[0].item() > 0) == stops
        assert result.counted.item() == 1


# ---- the loss scale of float16 --------------------------------------------------------------


def calm(config: RunConfig) -> TrainState:
    """Return a state with bottlenecks of usual length: shorter ones have larger gradients."""
    state = TrainState.start(config, CPU)
    with torch.no_grad():
        for network in (state.student, state.teacher):
            for parameter in network.head.mlp.parameters():
                parameter *= 20
    if config.precision == "fp16":
        state.scaler.scale.fill_(16.0)
    return state


def scale_after(config: RunConfig, state: TrainState, fault: str = "") -> float:
    batch = random_batch(config, state.step)
    if fault:
        faulty(fault, state, batch)
    take_step(config, state, batch)
    return state.scaler.scale.item()


def test_an_overflow_halves_the_scale_and_good_steps_double_it(monkeypatch) -> None:
    monkeypatch.setattr(train.loss_scale, "GROW_STEPS", 3)
    # at this learning rate the network hardly changes
    config = tiny_run(precision="fp16", epochs=9, optim__lr_base=1e-5)
    assert TrainState.start(config, CPU).scaler.scale.item() == 2**16
    state = calm(config)
    assert scale_after(config, state) == 16
    state.scaler.scale.fill_(2.0**40)  # float16 ends at 65504
    before = everything(state)
    assert scale_after(config, state) == 2**39
    assert_same_bits(everything(state), before)
    # an overflow is a skipped step, but does not count in a row while the scale can fall
    assert state.scaler.skips_in_a_row.item() == 0

    state.scaler.scale.fill_(16.0)
    assert [scale_after(config, state) for _ in range(3)] == [16, 16, 32]
    assert [scale_after(config, state) for _ in range(2)] == [32, 32]
    assert scale_after(config, state, "global view") == 16  # and the count starts again
    assert [scale_after(config, state) for _ in range(3)] == [16, 16, 32]


def test_a_fault_is_counted_when_the_scale_can_fall_no_further() -> None:
    config = tiny_run(precision="fp16")
    state = TrainState.start(config, CPU)
    state.scaler.scale.fill_(2.0)
    found = []
    for _ in range(3):
        scale = scale_after(config, state, "global view")
        found.append((scale, state.scaler.skips_in_a_row.item()))
    assert found == [(1, 0), (1, 1), (1, 2)]


def test_only_float16_scales_its_loss() -> None:
    for precision in ("fp32", "bf16"):
        config = tiny_run(precision=precision)
        state = TrainState.start(config, CPU)
        assert [scale_after(config, state) for _ in range(2)] == [1, 1]
        assert scale_after(config, state, "global view") == 1


@pytest.mark.slow
def test_a_scale_leaves_the_step_as_it_is(monkeypatch) -> None:
    # in float32 a factor of 2 ** 16 changes only exponents, so results must be equal
    monkeypatch.setitem(AUTOCAST, "fp16", torch.float32)
    scaled = run_steps(tiny_run(precision="fp16", micro_batch=3), 5)
    assert scaled.scaler.scale.item() == 2**16
    plain = run_steps(tiny_run(micro_batch=3), 5)
    assert_same_bits(everything(scaled), everything(plain))


def test_gradients_of_float16_are_those_of_float32(monkeypatch) -> None:
    found: dict[str, list[Tensor]] = {}
    step_where = train.step.step_where
    for precision in ("fp32", "fp16"):
        config = tiny_run(precision=precision, optim__clip_norm=0.0, optim__warmup_epochs=0)
        state = calm(config)
        state.step = STEPS_PER_EPOCH  # the prototypes learn

        def record(
            optimizer, finite, precision=precision, network=state.student, take=step_where
        ) -> None:
            found[precision] = [gradient.clone() for gradient in gradients_of(network)]
            take(optimizer, finite)

        monkeypatch.setattr(train.step, "step_where", record)
        take_step(config, state, random_batch(config, state.step))
    assert len(found["fp16"]) == len(list(state.student.parameters()))
    for ours, theirs in zip(found["fp16"], found["fp32"], strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02  # 11 bits, some 20 products


# ---- nothing waits for the device -----------------------------------------------------------


@pytest.fixture
def waits() -> Iterator[HostWaits]:
    with counted_reads(HostWaits()) as counter:
        yield counter


def test_waits_are_found(waits) -> None:
    x = torch.tensor([1.0, 0.0])
    for read, name in [
        (lambda: x[0].item(), "_local_scalar_dense"),
        (lambda: bool(x[0]), "is_nonzero"),
        (lambda: float(x[0]), "_local_scalar_dense"),
        (lambda: x.nonzero(), "nonzero"),
        (lambda: x[x > 0], "index"),
        (lambda: x.tolist(), "tolist"),
        (lambda: x.cpu(), "cpu"),
    ]:
        waits.found.clear()
        with waits:
            read()
        assert len(waits.found) == 1 and waits.found[0] in (name, "_local_scalar_dense"), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16", "model__drop_path": 0.5, "micro_batch": 3},
        {"precision": "fp16", "loss__norm": "sum", "loss__negative_adaptive": True},
        {"precision": "fp32", "compat": KINDS["quirks"]["compat"], "model__recompute": True},
    ],
    ids=["bf16", "fp16", "quirks"],
)
def test_a_step_does_not_wait(waits, options) -> None:
    config = tiny_run(**options)
    state = calm(config)
    for step in range(STEPS_PER_EPOCH + 1):  # with frozen prototypes, and without
        batch = random_batch(config, step)
        with waits:
            take_step(config, state, batch)
    batch = random_batch(config, state.step)
    faulty("global view", state, batch)
    with waits:
        take_step(config, state, batch)
    assert waits.found == []


# ---- what the host reads, and what it reports -----------------------------------------------


def test_a_host_reads_a_cpus_values_at_once() -> None:
    reader = LateReader(CPU)
    for step in range(4):
        assert reader.read(torch.tensor([step, 0.5])) == [step, 0.5]


def test_a_host_reads_a_gpus_values_some_steps_late(monkeypatch) -> None:
    class Event:
        """A stand-in for an event of a GPU."""

        waited_for = 0

        def record(self) -> None: ...

        def synchronize(self) -> None:
            Event.waited_for += 1

    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory, **how: empty(*shape, **how))
    reader = LateReader(torch.device("cuda"))
    for step in range(LAG_STEPS + 4):
        value = torch.tensor([float(step), 0.5])
        seen = reader.read(value)
        value.fill_(-1)  # later changes of a tensor that was passed are not seen
        assert seen == (None if step < LAG_STEPS else [step - LAG_STEPS, 0.5])
        assert Event.waited_for == max(0, step + 1 - LAG_STEPS)


class Healthy:
    """A health monitor without warnings."""

    def look(self, values) -> dict[str, str]:
        return {}


def test_a_skipped_step_does_not_enter_the_means(tmp_path) -> None:
    config = tiny_run(out=tmp_path)
    state = TrainState.start(config, CPU)
    meters = Meters(config, ALONE, state, total_steps=8)
    counted: list[StepResult] = []
    for step in range(4):
        batch = random_batch(config, step)
        if step in (1, 3):
            faulty("global view", state, batch)
        result = take_step(config, state, batch)
        meters.add(result, wait_s=0.0)
        if step == 2:
            meters.report({"epoch": 1.5}, Healthy())
        if step in (0, 2):
            counted.append(result)
    meters.report({"epoch": 2.0}, Healthy())  # of a skipped step, and of no other
    meters.close()
    lines = (tmp_path / METRICS_FILE_NAME).read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["step"], first["skipped"], second["step"], second["skipped"]) == (3, 1, 4, 1)
    for name in counted[0].values:
        mean = np.mean([result.values[name].item() for result in counted])
        assert first[name] == pytest.approx(mean, rel=1e-6, abs=1e-7)
        assert second[name] is None
