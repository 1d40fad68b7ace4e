"""Networks of timm as backbones: features, batch norm, whole runs, and refused options."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import train.step as step_module
from eval import score
from shards.errors import UserError
from shards.terminal import cli
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.step_cases import CPU, random_batch, take_step, tiny_run
from tests.support.train_cases import tensors_of
from train.config import ModelConfig, RunConfig
from train.config_checks import check_config
from train.main import main
from train.networks.batch_norm import RunningStatistics, share_statistics
from train.networks.model import build_networks, untrained_backbone
from train.state import TrainState
from train.teacher import load_teacher
from train.world import World

pytestmark = pytest.mark.slow

NAMES = ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"]
"""timm's smallest networks: a plain ViT, CNNs with and without batch norm."""
VIEWS = {"views__global_px": 64, "views__local_px": 32}


def run_of(name: str, **changes) -> RunConfig:
    model = ModelConfig(name=name, drop_path=changes.pop("drop_path", 0.0))
    return tiny_run(model=model, **VIEWS, **changes)


def timms_own(name: str, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The same network made by timm alone."""
    options = {"img_size": 64, "dynamic_img_size": True} if "vit" in name else {}
    network = timm.create_model(name, num_classes=0, **options)
    network.load_state_dict(weights)
    return network.eval()


# ---- forward --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_network_by_name_computes_what_timms_does(name) -> None:
    student, teacher = build_networks(run_of(name), CPU)
    own = timms_own(name, student.backbone.state_dict())
    large, small = torch.randn(3, 3, 64, 64), torch.randn(4, 3, 32, 32)
    for network in (student.eval(), teacher.eval()):
        logits, features = network([large, small], [None, None])
        assert [list(part.shape) for part in logits] == [[3, 32], [4, 32]]
        with torch.no_grad():
            expected = torch.cat([own(large), own(small)])
        assert features.shape == expected.shape == (7, network.head.mlp[0].in_features)
        assert (features - expected).abs().max() < 1e-5
        alone = network([small], [None])[0][0]
        assert (logits[1] - alone).abs().max() < 1e-5
    assert student.is_plain_vit == (name == "test_vit")


def test_a_vit_that_joins_tokens_keeps_its_own_forward() -> None:
    """The distilled DeiT averages two tokens; the class token alone is another feature."""
    student, _ = build_networks(run_of("deit_tiny_distilled_patch16_224"), CPU)
    assert not student.is_plain_vit and student.scaled_blocks == 0
    x = torch.randn(2, 3, 32, 32)
    student.eval()
    with torch.no_grad():
        tokens = student.backbone.forward_features(x)
        assert (student.features(x) - tokens[:, :2].mean(1)).abs().max() < 1e-5


def test_views_of_a_vit_are_cut_by_its_own_patches() -> None:
    student, _ = build_networks(run_of("test_vit"), CPU)
    assert student.backbone.patch_embed.grid_size == (4, 4)
    assert student.backbone.global_pool == "token" and student.backbone.dynamic_img_size


def scales_met(config: RunConfig, monkeypatch) -> list:
    met = []
    compute = step_module.objective

    def watched(config, state, student, part, values):
        met.append(part.scales[0])
        return compute(config, state, student, part, values)

    monkeypatch.setattr(step_module, "objective", watched)
    state = TrainState.start(config, CPU)
    take_step(config, state, random_batch(config, 0))
    return met


def test_stochastic_depth_is_drawn_for_the_blocks_there_are(monkeypatch) -> None:
    config = run_of("test_vit", drop_path=0.5, global_batch=40)
    blocks = timm.create_model("test_vit").blocks
    assert len(blocks) != config.model.depth
    (scales,) = scales_met(config, monkeypatch)
    assert scales.shape[:2] == (len(blocks), 2)
    assert not (scales[0] == 0).any() and set(scales[-1].unique().tolist()) == {0.0, 2.0}


def of_whole_branches(config: RunConfig) -> TrainState:
    """The start of a run of ConvNeXt, whose branches have a scale of 1e-6, with a scale of 1.

    At 1e-6 a branch that is left out changes the loss by less than float32 rounds.
    """
    state = TrainState.start(config, CPU)
    scales = [p for name, p in state.student.named_parameters() if name.endswith("gamma")]
    assert scales
    for scale in scales:
        nn.init.ones_(scale)
    return state


def test_a_cnn_draws_its_own_stochastic_depth_by_the_step(monkeypatch) -> None:
    config = run_of("test_convnext", drop_path=0.5)
    assert scales_met(config, monkeypatch) == [None]
    losses = []
    for noise in (1, 2):
        state = of_whole_branches(config)
        batch = random_batch(config, 0)
        torch.manual_seed(noise)
        losses.append(take_step(config, state, batch).values["loss"])
    assert losses[0].isfinite() and torch.equal(*losses)
    still = of_whole_branches(run_of("test_convnext"))
    assert not torch.equal(take_step(config, still, batch).values["loss"], losses[0])


# ---- batch norm -----------------------------------------------------------------------------


def test_student_and_teacher_keep_running_statistics_of_what_they_see() -> None:
    """The rule is torch's, 0.9 old + 0.1 new, once for each size of view; the teacher has one."""
    config = run_of("test_resnet", precision="fp32")
    state = TrainState.start(config, CPU)
    batch = random_batch(config, 0)
    first = nn.Sequential(state.student.backbone.conv1)
    with torch.no_grad():
        seen = [
            first(views.flatten(0, 1)).mean((0, 2, 3))
            for views in (batch.global_views, batch.local_views, batch.global_views[:2])
        ]
    take_step(config, state, batch)
    student, teacher = state.student.backbone.bn1, state.teacher.backbone.bn1
    assert (student.running_mean - (0.09 * seen[0] + 0.1 * seen[1])).abs().max() < 1e-5
    assert (teacher.running_mean - 0.1 * seen[2]).abs().max() < 1e-5
    assert (student.num_batches_tracked, teacher.num_batches_tracked) == (2, 1)


def test_a_skipped_step_leaves_running_statistics_as_they_were() -> None:
    config = run_of("test_resnet")
    state = TrainState.start(config, CPU)
    take_step(config, state, random_batch(config, 0))
    before = {name: value.clone() for name, value in state.network_tensors().items()}
    batch = random_batch(config, 1)
    batch.global_views[0, 0, 0, 0, 0] = float("nan")
    assert take_step(config, state, batch).counted == 0
    after = state.network_tensors()
    networks = [name for name in before if name.startswith(("student.", "teacher."))]
    assert any(name.endswith("num_batches_tracked") for name in networks)
    for name in networks:
        assert torch.equal(before[name], after[name]), name
    assert take_step(config, state, random_batch(config, 2)).counted == 1
    for network in (state.student, state.teacher):
        assert network.backbone.bn1.running_mean.isfinite().all()
    name = "teacher.backbone.bn1.running_var"
    assert not torch.equal(before[name], state.network_tensors()[name])


def test_statistics_are_restored_by_the_device_alone() -> None:
    """`finite` never becomes a Python value, because the host would wait for it."""
    network = nn.BatchNorm1d(3)
    statistics = RunningStatistics(network, nn.Linear(2, 2))
    network(torch.full((2, 3), float("nan")))
    with torch.device("meta"):
        RunningStatistics(nn.BatchNorm1d(3)).restore_unless(torch.zeros((), dtype=torch.bool))
    statistics.restore_unless(torch.tensor(False))
    assert network.running_mean.tolist() == [0, 0, 0] and network.num_batches_tracked == 0


def test_ranks_on_gpus_share_statistics_of_both_networks() -> None:
    config = run_of("test_efficientnet")
    student, teacher = build_networks(config, CPU)
    parameters, tensors = list(student.parameters()), student.state_dict()
    acts = [m.act for m in student.modules() if isinstance(m, timm.layers.BatchNormAct2d)]
    share_statistics(config, World(0, 2, torch.device("cuda")), student, teacher)
    for network in (student, teacher):
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    # The optimizer and the checkpoint keep the same tensors.
    assert all(a is b for a, b in zip(parameters, student.parameters(), strict=True))
    assert tensors.keys() == student.state_dict().keys()
    found = [m.act for m in student.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert acts and all(a is b for a, b in zip(acts, found, strict=True))


def test_ranks_on_cpus_cannot(monkeypatch) -> None:
    config = run_of("test_resnet")
    student, teacher = build_networks(config, CPU)
    with pytest.raises(UserError, match="model.name is test_resnet.*batch norm.*2 ranks on CPUs"):
        share_statistics(config, World(0, 2, CPU), student, teacher)
    share_statistics(config, World(0, 1, CPU), student, teacher)
    share_statistics(config, World(0, 2, CPU), *build_networks(run_of("test_convnext"), CPU))


# ---- runs -----------------------------------------------------------------------------------

SMALL = (
    "--views.global-px 32 --views.local-px 16 --views.local-views 1 --global-batch 6 --epochs 2 "
    "--optim.warmup-epochs 0.5 --checkpoint-steps 2 --keep-checkpoints 9 --log-steps 1 "
    "--loader.threads 1 --head.hidden 16 --head.bottleneck 8 --head.prototypes 16 --device cpu "
    "--model.patch-px 16 --model.width 384 --model.depth 12 --model.heads 6 --precision fp32"
).split()
"""Return the command of four steps of `demo-cpu` on 12 images, without sizes of the ViT."""


def command(images: Path, out: Path, *options: str) -> list[str]:
    return ["demo-cpu", "--in-dist", str(images), "--out", str(out), *SMALL, *options]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Make folders of shards: train (12 images of 32 px), test (5), ood (6)."""
    root = tmp_path_factory.mktemp("sets")
    for seed, (name, count) in enumerate([("train", 12), ("test", 5), ("ood", 6)]):
        build_npy_set(root, name, smooth_images(count, 32, 3, seed=50 + seed))
    return root


@pytest.fixture(scope="module", params=["resnet18", "test_vit"])
def finished(request, sets, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    out = tmp_path_factory.mktemp(request.param) / "run"
    main(command(sets / "train", out, "--model.name", request.param))
    yield request.param, out
    shutil.rmtree(out)


def test_a_resumed_run_ends_bit_for_bit_as_a_whole_one(finished, sets, tmp_path) -> None:
    name, whole = finished
    cut = tmp_path / "run"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step-00000004")
    main(command(sets / "train", cut, "--model.name", name))
    expected, found = tensors_of(whole, 4), tensors_of(cut, 4)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.dtype == found[key].dtype and torch.equal(value, found[key]), key
    if name == "resnet18":
        tracked = expected["networks:teacher.backbone.bn1.num_batches_tracked"]
        assert tracked.dtype == torch.int64 and tracked == 4


def test_its_teacher_is_scored_in_evaluation_mode(finished, sets, tmp_path) -> None:
    name, run = finished
    loaded = load_teacher(run, CPU)
    saved = tensors_of(run, 4)
    prefix = "networks:teacher.backbone."
    weights = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    options = {"img_size": 32} if name == "test_vit" else {}
    own = timm.create_model(name, num_classes=0, **options)
    own.load_state_dict(weights)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert (loaded.backbone(x) - own.eval()(x)).abs().max() < 1e-5
    folders = {"--in-dist-train": "train", "--in-dist-test": "test", "--ood": "ood"}
    arguments = [part for option in folders for part in (option, str(sets / folders[option]))]
    out = tmp_path / "scores"
    score.main(
        [str(run), *arguments, "--out", str(out), "--baselines", "--device", "cpu", "--k", "5"]
    )
    results = json.loads((out / "results.json").read_text())
    assert list(results["methods"]) == ["pixel", "untrained", "teacher"]
    untrained = untrained_backbone(loaded.config, CPU)
    assert not untrained.training and not torch.equal(untrained(x), loaded.backbone(x))


NAMED = ["--model.name", "resnet18"]
REFUSED = [
    (["--model.name", "resnet81"], ["model.name is resnet81", "resnet18"]),
    (["--model.name", "resnet18.nope"], ["model.name is resnet18.nope", "mean resnet18."]),
    (["--model.name", "hf-hub:timm/resnet18"], ["model.name is hf-hub:timm/resnet18"]),
    ([*NAMED, "--model.width", "96"], ["model.width is 96", "resnet18", "--model.width 384"]),
    ([*NAMED, "--model.heads", "3"], ["model.heads is 3", "--model.heads 6"]),
    ([*NAMED, "--micro-batch", "3"], ["micro_batch is 3", "resnet18", "batch norm"]),
    ([*NAMED, "--precision", "bf16"], ["precision is bf16", "resnet18", "--precision fp32"]),
    ([*NAMED, "--model.recompute"], ["model.recompute", "resnet18"]),
    (["--model.name", "vgg11"], ["model.drop_path is 0.1", "vgg11", "--model.drop-path 0"]),
    (
        ["--model.name", "test_vit", "--views.local-px", "24"],
        ["views.local_px is 24", "16 px", "test_vit"],
    ),
    (
        ["--model.name", "test_vit", "--views.global-px", "40"],
        ["views.global_px is 40", "16 px", "test_vit"],
    ),
    (
        ["--model.name", "vgg11", "--model.drop-path", "0", "--views.global-px", "8"],
        ["views.global_px is 8", "vgg11"],
    ),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[" ".join(o) for o, _ in REFUSED])
def test_mistakes_are_named_and_leave_nothing(sets, tmp_path, capsys, options, words) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(command(sets / "train", tmp_path / "run", *options)))
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.count("\n") == 1, told
    for word in words:
        assert word in told
    assert not (tmp_path / "run").exists()


def test_a_network_of_another_name_is_another_run(finished, sets, capsys) -> None:
    name, run = finished
    other = "test_resnet"
    with pytest.raises(UserError, match=f"model.name is '{other}' now and '{name}' there"):
        main(command(sets / "train", run, "--model.name", other))


def test_the_sizes_of_all_recipes_pass_for_a_vit() -> None:
    config = tiny_run()
    assert config.model.name == "vit"
    named = dataclasses.replace(config, model=ModelConfig(name="resnet18"))
    check_config(named)
