"""Initial weights of a run: a file, a DINO checkpoint, or weights that timm downloads.

This is the only file that calls `torch.load`, which unpickles. With `weights_only` it creates
nothing but tensors and plain containers.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from shards.errors import UserError, few
from train.config import ModelConfig
from train.networks.backbone import check_name
from train.networks.dino_vit import DinoViT, dino_positions

TIMM = "timm"
REACH_S = 5.0
"""Time in seconds that the hub may take for its first answer."""
KEYS_NAMED = 3
"""Number of weights that a message names for each kind of mismatch; the names are long."""
WRAPPERS = ("teacher", "state_dict", "model")
"""Keys under which checkpoints of DINO and of common trainers hold the weights."""
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")
"""Prefixes of the layers of an image classifier. The weights of these layers are left out."""


def load_init(model: ModelConfig, *backbones: nn.Module) -> str:
    """Load the weights that `model.init` names into `backbones`, which were built from `model`.

    A position grid of another size is interpolated (bicubic and antialiased, as in timm; for a
    `DinoViT` as in DINO). A file does not show the number of attention heads: `model.heads` must
    be the number that the file was made with.

    Returns:
        SHA-256 digest of the weights.

    Raises:
        UserError: the weights cannot be fetched or read, or do not fit such a network; the message
            names `model.init`.
    """
    name = model.name if model.init == TIMM else model.init.removeprefix(f"{TIMM}:")
    if model.init == TIMM or name != model.init:
        weights = _download(name, model)
    else:
        weights = _backbone_of(read_weights(Path(model.init)), model.init)
    weights = fit(weights, backbones[0], model.init)
    for backbone in backbones:
        backbone.load_state_dict(weights)
    digest = hashlib.sha256()
    for key, value in weights.items():
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


# ---- sources --------------------------------------------------------------------------------


def _download(name: str, model: ModelConfig) -> dict[str, Tensor]:
    if name == "vit":
        raise UserError("model.init is timm, but timm has no model.name vit; give timm:NAME")
    check_name(name, f"model.init is {model.init}")
    try:
        with _no_retries():
            network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # errors of the hub, of its HTTP client and of torch.hub
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"model.init is {model.init}: the weights of {name} could not be fetched (offline?), "
            f"give a file instead ({type(error).__name__}: {reason})"
        ) from error
    heads = _heads(network)
    if model.name == "vit" and heads not in (None, model.heads):
        raise UserError(
            f"model.init is {model.init}, of {heads} heads; model.heads is {model.heads}"
        )
    return network.state_dict()


@contextlib.contextmanager
def _no_retries() -> Iterator[None]:
    """Use local copies if the Hugging Face hub cannot be reached, without a minute of retries."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    was_offline = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_S)
    except Exception:  # the errors depend on the HTTP client, which differs between its versions
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _heads(network: nn.Module) -> int | None:
    found = {module.num_heads for module in network.modules() if hasattr(module, "num_heads")}
    return found.pop() if len(found) == 1 else None  # type: ignore[return-value]


def read_weights(path: Path, option: str = "model.init") -> Mapping[str, Any]:
    """Read a file of tensors, without running any code in it.

    Args:
        path: a .safetensors, .pth or .pt file.
        option: name of the option that gave the path, for error messages.

    Returns:
        Name -> content.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds more than tensors.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".safetensors": load_file,
        ".pth": _unpickled,
        ".pt": _unpickled,
    }
    if not path.is_file():
        raise UserError(f"{option} is {path}: no such file, and not timm or timm:NAME")
    if path.suffix not in readers:
        raise UserError(f"{option} is {path}, expected a file {', '.join(readers)}")
    try:
        held = readers[path.suffix](path)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it names {code[1]}, which could run code" if code else "it is damaged"
        raise UserError(f"{option} is {path}, no file of tensors alone: {what}") from error
    except (SafetensorError, RuntimeError, ValueError, LookupError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{option} is {path}, which cannot be read: {reason}") from error
    if not isinstance(held, Mapping):
        raise UserError(f"{option} is {path}, which holds a {type(held).__name__}, no weights")
    return held


def _unpickled(path: Path) -> Any:
    # DINO's full checkpoint also has its options and numpy numbers of its schedules. These classes
    # create plain values and run no code.
    scalar = np.float64(0).__reduce__()[0]
    plain = [
        argparse.Namespace,
        np.dtype,
        type(np.dtype(np.float64)),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    with torch.serialization.safe_globals(plain), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.simplefilter("ignore")  # about old formats, which do not matter to a user
        return torch.load(path, map_location="cpu", weights_only=True)


def _backbone_of(held: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Return the backbone's weights in the content of a file: the teacher's, if there are two."""
    ours = "teacher.backbone."
    if any(key.startswith(ours) for key in held):  # networks.safetensors of a checkpoint
        held = {key.removeprefix(ours): held[key] for key in held if key.startswith(ours)}
    for wrapper in WRAPPERS:
        if isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
            break
    weights = {_unwrapped(str(key)): value for key, value in held.items()}
    if any(key.startswith("backbone.") for key in weights):  # DINO's own head is dropped
        weights = {
            key.removeprefix("backbone."): value
            for key, value in weights.items()
            if not key.startswith("head.")
        }
    others = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if others or not weights:
        what = f"{few(others)}, no tensor" if others else "no tensor"
        raise UserError(f"model.init is {source}, which holds {what}")
    return {key: value.detach() for key, value in weights.items()}


def _unwrapped(key: str) -> str:
    for wrapper in ("module.", "_orig_mod."):
        key = key.removeprefix(wrapper)
    return key


# ---- what a network takes -------------------------------------------------------------------


def fit(weights: Mapping[str, Tensor], backbone: nn.Module, source: str) -> dict[str, Tensor]:
    """Return weights that `backbone` can load: no classifier, and a position grid of its size.

    Args:
        weights: weights of a backbone, by timm's names.
        backbone: the network that will load them; it does not change here.
        source: the value of `model.init`, for the message.

    Raises:
        UserError: the weights do not fit or are not finite; the message names what does not fit,
            with both values.
    """
    ours = backbone.state_dict()
    weights = {
        key: value
        for key, value in weights.items()
        if key in ours or not key.startswith(CLASSIFIERS)
    }
    here, there = _sizes(ours), _sizes(weights)
    faults = [
        f"{what} is {there[what]} there and {here[what]} here"
        for what in here
        if there.get(what, here[what]) != here[what]
    ]
    if not faults:
        weights = _with_grid(weights, backbone)
        faults = _differences(weights, ours)
    if faults:
        raise UserError(f"model.init is {source}, which does not fit: {'; '.join(faults)}")
    bad = [key for key, value in weights.items() if not value.isfinite().all()]
    if bad:
        raise UserError(f"model.init is {source}, whose {few(bad)} is not finite")
    return {key: weights[key].to("cpu", ours[key].dtype) for key in ours}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of a ViT by their names in `ModelConfig`. Empty for other networks."""
    patches = weights.get("patch_embed.proj.weight")
    if patches is None or "cls_token" not in weights:
        return {}
    blocks = {key.split(".")[1] for key in weights if key.startswith("blocks.")}
    return {"patch_px": patches.shape[-1], "width": patches.shape[0], "depth": len(blocks)}


def _with_grid(weights: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return the weights with a position grid [1, prefix + h w, d] of the backbone's h and w."""
    theirs, ours = weights.get("pos_embed"), getattr(backbone, "pos_embed", None)
    if theirs is None or ours is None or theirs.ndim != 3 or theirs.shape == ours.shape:
        return weights
    prefix: Any = 0
    if not getattr(backbone, "no_embed_class", False):
        prefix = getattr(backbone, "num_prefix_tokens", 0)
    side = math.isqrt(max(0, theirs.shape[1] - prefix))
    if not side or side**2 + prefix != theirs.shape[1]:
        return weights  # not square, so it will be named among the differences
    size: Any = backbone.patch_embed.grid_size  # type: ignore[union-attr]
    if isinstance(backbone, DinoViT):
        grid = dino_positions(theirs, tuple(size))
    else:
        grid = resample_abs_pos_embed(theirs, list(size), num_prefix_tokens=prefix)
    return {**weights, "pos_embed": grid}


def _differences(weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {list(weights[key].shape)} there and {list(ours[key].shape)} here"
        for key in ours
        if key in weights and weights[key].shape != ours[key].shape
    ]
    missing = [key for key in ours if key not in weights]
    left = [key for key in weights if key not in ours]
    return [
        *([few(shapes, KEYS_NAMED)] if shapes else []),
        *([f"it lacks {few(missing, KEYS_NAMED)}"] if missing else []),
        *([f"it has {few(left, KEYS_NAMED)} besides"] if left else []),
    ]
