"""Initial weights of a run: each kind of file, weights that do not fit, and pickles with code."""

from __future__ import annotations

import argparse
import ast
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

from shards.errors import UserError
from shards.terminal import cli
from tests.support.paths import ROOT
from tests.support.step_cases import CPU, tiny_run
from tests.support.train_cases import command_line, tensors_of
from train.config import ModelConfig, RunConfig
from train.main import main
from train.networks.model import build_networks, untrained_backbone
from train.networks.pretrained import load_init
from train.teacher import load_teacher

SIZES = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}


def source_vit(img_size: int = 16, seed: int = 9, **changes) -> VisionTransformer:
    """Return a ViT of timm with the sizes of `tiny_run` and random weights."""
    vit = VisionTransformer(img_size=img_size, **{**SIZES, "num_classes": 0, **changes})
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_(0, 0.3)
    return vit.eval()


def prefixed(weights: dict, prefix: str) -> dict:
    return {prefix + key: value for key, value in weights.items()}


def config_of(path: Path | str) -> RunConfig:
    return tiny_run(model__init=str(path))


def loaded(path: Path | str):
    """Return both backbones of a run that starts from `path`."""
    config = config_of(path)
    student, teacher = build_networks(config, CPU)
    load_init(config.model, student.backbone, teacher.backbone)
    return student.backbone.eval(), teacher.backbone.eval()


def write_timm(vit: VisionTransformer, folder: Path) -> Path:
    """Write a classifier as timm and the hub store it."""
    head = {"head.weight": torch.randn(5, 12), "head.bias": torch.randn(5)}
    save_file({**vit.state_dict(), **head}, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_bare(vit: VisionTransformer, folder: Path) -> Path:
    """Write bare weights, like dino_deitsmall16_pretrain.pth."""
    torch.save(vit.state_dict(), folder / "pretrain.pth")
    return folder / "pretrain.pth"


def write_dino(vit: VisionTransformer, folder: Path) -> Path:
    """Write what main_dino.py saves: student, teacher, options and values of schedules."""
    head = {"head.mlp.0.weight": torch.randn(8, 12), "head.last_layer.weight_g": torch.ones(4, 1)}
    student = {**prefixed(source_vit(seed=77).state_dict(), "backbone."), **head}
    teacher = {**prefixed(vit.state_dict(), "backbone."), **head}
    held = {
        "student": prefixed(student, "module."),
        "teacher": prefixed(teacher, "module."),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-3)}]},
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small", patch_size=16, local_crops_scale=(0.05, 0.4)),
        "dino_loss": {"center": torch.zeros(1, 4)},
    }
    torch.save(held, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def write_ours(vit: VisionTransformer, folder: Path) -> Path:
    """Write weights like networks.safetensors of a checkpoint."""
    tensors = {
        **prefixed(source_vit(seed=77).state_dict(), "student.backbone."),
        **prefixed(vit.state_dict(), "teacher.backbone."),
        "teacher.head.mlp.0.weight": torch.randn(8, 12),
        "centre": torch.zeros(1, 4),
    }
    save_file(tensors, folder / "networks.safetensors")
    return folder / "networks.safetensors"


WRITERS = [write_timm, write_bare, write_dino, write_ours]


# ---- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
def test_both_backbones_start_from_a_file_of_each_kind(tmp_path, write) -> None:
    vit = source_vit()
    views = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = vit(views)
        for backbone in loaded(write(vit, tmp_path)):
            assert (backbone(views) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("write", WRITERS)
def test_a_position_grid_of_another_size_is_interpolated(tmp_path, write) -> None:
    vit = source_vit(img_size=24)  # 6 x 6 patches, here 4 x 4
    grid = vit.pos_embed.detach()[:, 1:].reshape(1, 6, 6, 12).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (4, 4), mode="bicubic", antialias=True)
    expected = torch.cat([vit.pos_embed.detach()[:, :1], grid.flatten(2).mT], 1)
    for backbone in loaded(write(vit, tmp_path)):
        assert (backbone.pos_embed - expected).abs().max() < 1e-5
        for key, value in vit.state_dict().items():
            assert key == "pos_embed" or torch.equal(value, backbone.state_dict()[key]), key


def test_a_cnn_is_read_with_its_buffers_and_without_its_classifier(tmp_path) -> None:
    source = timm.create_model("test_resnet")  # with a classifier of 1000 classes
    torch.manual_seed(1)
    source.bn1.running_mean.normal_()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    config = tiny_run(
        model=ModelConfig(
            name="test_resnet", drop_path=0.0, init=str(tmp_path / "model.safetensors")
        )
    )
    student, _ = build_networks(config, CPU)
    load_init(config.model, student.backbone)
    assert torch.equal(student.backbone.bn1.running_mean, source.bn1.running_mean)
    assert student.backbone.bn1.num_batches_tracked.dtype == torch.int64


def test_a_norm_in_front_of_the_classifier_belongs_to_the_backbone(tmp_path) -> None:
    weights = timm.create_model("test_convnext").state_dict()
    assert "head.norm.weight" in weights and "head.fc.weight" in weights
    del weights["head.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    model = ModelConfig(name="test_convnext", init=str(tmp_path / "model.safetensors"))
    student, _ = build_networks(tiny_run(model=model, views__global_px=64, views__local_px=32), CPU)
    with pytest.raises(UserError, match=r"it lacks head\.norm\.weight$"):
        load_init(model, student.backbone)


# ---- what does not fit ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"embed_dim": 24}, "width is 24 there and 12 here"),
        ({"depth": 3}, "depth is 3 there and 2 here"),
        ({"depth": 1}, "depth is 1 there and 2 here"),
        ({"patch_size": 8}, "patch_px is 8 there and 4 here"),
        ({"depth": 3, "embed_dim": 24}, "width is 24 there and 12 here; depth is 3"),
        ({"qkv_bias": False}, "lacks blocks.0.attn.qkv.bias, blocks.1.attn.qkv.bias"),
        ({"init_values": 1.0}, "has blocks.0.ls1.gamma, blocks.0.ls2.gamma, blocks.1.ls1.gamma"),
        ({"mlp_ratio": 2}, "blocks.0.mlp.fc1.weight is [24, 12] there and [48, 12] here"),
        ({"class_token": False, "global_pool": "avg"}, "lacks cls_token"),
    ],
    ids=str,
)
@pytest.mark.parametrize("write", [write_bare, write_dino])
def test_other_sizes_and_keys_are_named(tmp_path, write, changes, told) -> None:
    path = write(source_vit(**changes), tmp_path)
    with pytest.raises(UserError) as refused:
        loaded(path)
    text = str(refused.value)
    assert text.startswith(f"model.init is {path}, which does not fit: ") and told in text
    assert len(text) < 400


def test_leftover_keys_beside_a_backbone_are_not_ignored(tmp_path) -> None:
    weights = prefixed(source_vit().state_dict(), "backbone.")
    torch.save({**weights, "decoder.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"has decoder\.weight besides"):
        loaded(tmp_path / "x.pth")


def test_weights_that_are_not_finite_are_refused(tmp_path) -> None:
    vit = source_vit()
    with torch.no_grad():
        vit.blocks[1].mlp.fc1.bias[3] = float("nan")
    with pytest.raises(UserError, match=r"blocks\.1\.mlp\.fc1\.bias is not finite"):
        loaded(write_bare(vit, tmp_path))


def test_files_that_hold_no_weights_are_named_in_a_line(tmp_path) -> None:
    whole = write_bare(source_vit(), tmp_path).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.pth").write_bytes(b"no zip and no pickle")
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.npz").write_bytes(whole)
    (tmp_path / "folder.pth").mkdir()
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    save_file({}, tmp_path / "none.safetensors")
    for name in (
        "cut.pth noise.pth noise.safetensors empty.pth weights.npz folder.pth list.pth epoch.pth "
        "none.safetensors gone.pth gone"
    ).split():
        with pytest.raises(UserError) as refused:
            loaded(tmp_path / name)
        assert str(refused.value).startswith(f"model.init is {tmp_path / name}"), name
        assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value), name


# ---- pickles --------------------------------------------------------------------------------


class Payload:
    """A payload that runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["alone", "teacher", "args"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_a_pickle_with_code_is_refused_before_it_runs(tmp_path, place, kind) -> None:
    payload = Payload(tmp_path / "ran")
    held = {
        "alone": payload,
        "teacher": {"teacher": {**source_vit().state_dict(), "norm.weight": payload}},
        "args": {"teacher": source_vit().state_dict(), "args": argparse.Namespace(a=payload)},
    }[place]
    path = tmp_path / "x.pth"
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError) as refused:
        loaded(path)
    assert str(refused.value).startswith(f"model.init is {path}, no file of tensors alone")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_only_one_place_unpickles_and_it_makes_tensors_alone() -> None:
    found = []
    folders = ["shards", "dali_pipes", "train", "eval", "benchmarks"]
    for path in [path for folder in folders for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization"):
                assert not {"load", "*"} & {alias.name for alias in node.names}, path
            if isinstance(node, ast.Attribute) and node.attr == "load":
                if ast.unparse(node.value) in ("torch", "torch.serialization"):
                    found.append((path, node))
    ((path, _),) = found
    assert path == ROOT / "train" / "networks" / "pretrained.py"
    (call,) = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert options["weights_only"] == "True"


# ---- timm -----------------------------------------------------------------------------------


@pytest.fixture
def unreachable_hub(monkeypatch, tmp_path) -> None:
    """No weights are stored, and nothing listens at the hub's address."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("init", ["timm:resnet10t", "timm"])
def test_without_a_network_it_is_told_at_once(unreachable_hub, monkeypatch, init) -> None:
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)  # retries sleep between two attempts
    student, _ = build_networks(
        tiny_run(model=ModelConfig(name="resnet10t", drop_path=0.0), views__local_px=16), CPU
    )
    with pytest.raises(UserError) as refused:
        load_init(ModelConfig(name="resnet10t", init=init), student.backbone)
    assert str(refused.value).startswith(
        f"model.init is {init}: the weights of resnet10t could not be fetched (offline?), give a "
        "file instead (LocalEntryNotFoundError: "
    )
    assert "\n" not in str(refused.value) and not waited
    assert constants.HF_HUB_OFFLINE is False


def test_what_the_hub_raises_is_one_line(unreachable_hub, monkeypatch) -> None:
    def raises(*_, **__):
        raise LocalEntryNotFoundError("An error happened.\nPlease check your connection.")

    config = config_of("timm:vit_small_patch16_224.dino")
    student, _ = build_networks(config, CPU)
    monkeypatch.setattr(timm, "create_model", raises)
    with pytest.raises(UserError) as refused:
        load_init(config.model, student.backbone)
    assert "vit_small_patch16_224.dino could not be fetched" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_timm_fetches_is_taken_over(unreachable_hub, monkeypatch) -> None:
    vit = source_vit(img_size=24)
    asked = []

    def fetched(name, **options):
        asked.append((name, options))
        return vit

    config = config_of("timm:test_vit")
    student, teacher = build_networks(config, CPU)
    monkeypatch.setattr(timm, "create_model", fetched)
    load_init(config.model, student.backbone, teacher.backbone)
    assert asked == [("test_vit", {"pretrained": True, "num_classes": 0})]
    for backbone in (student.backbone, teacher.backbone):
        assert torch.equal(backbone.blocks[1].mlp.fc1.weight, vit.blocks[1].mlp.fc1.weight)
    vit.blocks[0].attn.num_heads = vit.blocks[1].attn.num_heads = 3
    with pytest.raises(UserError, match="of 3 heads; model.heads is 2"):
        load_init(config.model, student.backbone)


# ---- runs -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_starts_from_a_file_and_goes_on_without_it(rgb_dir, tmp_path) -> None:
    """With a learning rate of 0 the last checkpoint has the initial weights."""
    vit = VisionTransformer(
        img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=3, num_classes=0
    )
    path = write_bare(vit, tmp_path)
    options = [*"--optim.lr-base 0 --optim.lr-end 0 --epochs 1".split(), "--model.init", str(path)]
    options += ["--optim.warmup-epochs", "0.5", "--checkpoint-steps", "5"]
    run = tmp_path / "run"
    main(command_line(rgb_dir, run, *options))
    path.unlink()
    saved = tensors_of(run, 10)
    for network in ("student", "teacher"):
        for key, value in vit.state_dict().items():
            assert torch.equal(saved[f"networks:{network}.backbone.{key}"], value), key
    config = load_teacher(run, CPU).config  # needs no file
    drawn, _ = build_networks(config, CPU)
    for key, value in drawn.head.state_dict().items():
        assert torch.equal(saved[f"networks:student.head.{key}"], value), key
    shutil.rmtree(run / "checkpoints" / "step-00000010")
    main(command_line(rgb_dir, run, *options))
    for name, value in saved.items():
        assert torch.equal(value, tensors_of(run, 10)[name]), name
    with pytest.raises(UserError, match=f"model.init is {path}: no such file"):
        untrained_backbone(config, CPU)
    write_bare(vit, tmp_path)
    assert torch.equal(untrained_backbone(config, CPU).pos_embed, vit.pos_embed)
    path.unlink()
    shutil.rmtree(run / "checkpoints")  # it would start again, and cannot
    with pytest.raises(UserError, match=f"model.init is {path}: no such file"):
        main(command_line(rgb_dir, run, *options))


REFUSED = [
    (["--model.init", "no/such.pth"], "model.init is no/such.pth: no such file"),
    (["--model.init", "timm"], "timm has no model.name vit; give timm:NAME"),
    (["--model.init", "timm:resnet81"], "model.init is timm:resnet81, which timm"),
    (["--model.init", "setup.py"], "model.init is setup.py, expected a file .safetensors"),
]


@pytest.mark.parametrize(("options", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_mistakes_are_named_and_leave_nothing(
    rgb_dir, tmp_path, capsys, monkeypatch, options, told
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(command_line(rgb_dir, tmp_path / "run", *options)))
    text = capsys.readouterr().err
    assert stopped.value.code == 2 and text.count("\n") == 1 and told in text, text
    assert not (tmp_path / "run").exists()
