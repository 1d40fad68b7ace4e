"""What a run is: one frozen dataclass, which every recipe fills and every command can override.

K, lambda and the temperatures of the paper are tuned for 50,000 and more images; on small sets they
stay at the uniform solution (loss near ln K). See the recipe `demo-cpu` for values that suit those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.negatives import parse_negatives
from shards.cli import UserError


@dataclass(frozen=True)
class ModelConfig:
    """The backbone, a ViT (defaults: ViT-S/16; paper, section 4)."""

    patch_px: int = 16
    """Side of a patch, in pixels; must divide both view sizes."""
    width: int = 384
    """Embedding size d, the length of the feature that is scored."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 6
    """Attention heads."""
    drop_path: float = 0.1
    """Stochastic depth of the student; the teacher has none."""


@dataclass(frozen=True)
class HeadConfig:
    """DINO's projection head g (method, section 2)."""

    prototypes: int = 4096
    """K, the number of soft classes (paper, section 4)."""
    layers: int = 3
    """Linear layers of the MLP before the bottleneck is normalised."""
    hidden: int = 2048
    """Width of the MLP."""
    bottleneck: int = 256
    """Width of the normalised vector that meets the prototypes."""
    norm_last_layer: bool = False
    """Whether the prototypes have unit length (else their lengths are learned)."""


@dataclass(frozen=True)
class LossConfig:
    """L = L_pos + lambda L_neg (paper, Eq. 3-5), each a mean over its view pairs and the batch."""

    negative_weight: float = 1.0
    """lambda of Eq. 5; unused without negatives."""
    negative_warmup_epochs: float = 0
    """Epochs over which lambda rises from 0: on small data the uniform response to negatives is
    learned before anything else and spreads to the positives."""
    student_temp: float = 0.1
    """tau_s (paper, section 4)."""
    teacher_temp_start: float = 0.055
    """tau_t of the first epoch."""
    teacher_temp_end: float = 0.01
    """tau_t of the last epoch; linear in between, constant within an epoch."""
    centre_momentum: float = 0.9
    """Of the running mean of the teacher's output that is subtracted from it."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and what is scheduled with it (per step, cosine)."""

    impl: Literal["fused", "apex"] = "fused"
    """torch's fused AdamW, or NVIDIA apex's FusedAdam where that is installed (CUDA only)."""
    lr_base: float = 0.004
    """Peak learning rate at a global batch of 256; scales linearly with the batch."""
    lr_end: float = 1e-6
    """Learning rate at the end."""
    warmup_epochs: float = 30
    """Epochs over which the learning rate rises from 0."""
    weight_decay_start: float = 0.04
    weight_decay_end: float = 0.4
    """Cosine from start to end; biases and 1-D parameters have none."""
    clip_norm: float = 3.0
    """Largest gradient norm of EACH parameter; 0 = no clipping."""
    freeze_last_layer_epochs: float = 1
    """Epochs during which the prototypes do not learn."""
    ema_momentum_start: float = 0.996
    """m of Eq. 2 at the start; 1 at the end."""


@dataclass(frozen=True)
class RunConfig:
    """A training run."""

    in_dist: Path
    """Folder of in-distribution training shards."""
    out: Path
    """Folder of the run: config.json, metrics.jsonl, TensorBoard events, checkpoints/. A run that
    is already there and has the same configuration is resumed."""
    aux: Path | None = None
    """Folder of auxiliary shards, at the same image size; for negatives that are made of them."""
    negatives: str = "rot"
    """none (DINO) | aux | rot (aux turned) | rot-in (in-dist turned) | combined (rot-in+rot) |
    rot90x4, rot-any, perm-4, perm-16, pixperm, cutperm, blur, each also with -in | mixes of these:
    `rot-in+pixperm` has both, `2*rot-in|pixperm` one of them for each image, by weight."""
    epochs: int = 500
    """Passes over the in-distribution set."""
    global_batch: int = 256
    """Images a step over all ranks."""
    seed: int = 0
    """Of the weights, the order of samples and every draw."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Autocast of the networks; head output, loss, centre and EMA are float32 always."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto = CUDA when there is a GPU."""
    elastic: bool = False
    """Whether the run may go on with another number of ranks than it had: the same images and views
    a step, but sums in another order, so no longer bit for bit."""
    log_steps: int = 50
    """Steps between two reports."""
    checkpoint_epochs: int = 10
    """Epochs between two checkpoints; the last epoch always has one."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept."""
    views: ViewSpec = field(default_factory=ViewSpec)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def check(self) -> None:
        """Refuse a configuration that cannot run.

        Raises:
            UserError: names the field and its value.
        """
        self.views.check()
        self.loader.check()
        parse_negatives(self.negatives)
        positive = {
            "epochs": self.epochs,
            "global_batch": self.global_batch,
            "log_steps": self.log_steps,
            "checkpoint_epochs": self.checkpoint_epochs,
            "keep_checkpoints": self.keep_checkpoints,
            "model.patch_px": self.model.patch_px,
            "model.width": self.model.width,
            "model.depth": self.model.depth,
            "model.heads": self.model.heads,
            "head.hidden": self.head.hidden,
            "head.bottleneck": self.head.bottleneck,
            "head.prototypes": self.head.prototypes,
            "head.layers": self.head.layers,
            "loss.student_temp": self.loss.student_temp,
            "loss.teacher_temp_start": self.loss.teacher_temp_start,
            "loss.teacher_temp_end": self.loss.teacher_temp_end,
        }
        for name, value in positive.items():
            if not value > 0:
                raise UserError(f"{name} is {value}, expected more than 0")
        not_negative = {
            "seed": self.seed,
            "loss.negative_weight": self.loss.negative_weight,
            "loss.negative_warmup_epochs": self.loss.negative_warmup_epochs,
            "optim.lr_base": self.optim.lr_base,
            "optim.lr_end": self.optim.lr_end,
            "optim.warmup_epochs": self.optim.warmup_epochs,
            "optim.weight_decay_start": self.optim.weight_decay_start,
            "optim.weight_decay_end": self.optim.weight_decay_end,
            "optim.clip_norm": self.optim.clip_norm,
            "optim.freeze_last_layer_epochs": self.optim.freeze_last_layer_epochs,
        }
        for name, value in not_negative.items():
            if not value >= 0:
                raise UserError(f"{name} is {value}, expected at least 0")
        fractions = {
            "model.drop_path": self.model.drop_path,
            "loss.centre_momentum": self.loss.centre_momentum,
            "optim.ema_momentum_start": self.optim.ema_momentum_start,
        }
        for name, value in fractions.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} is {value}, expected 0..1")
        for name in ("global_px", "local_px"):
            side_px = getattr(self.views, name)
            if side_px % self.model.patch_px:
                raise UserError(
                    f"views.{name} is {side_px}, not a multiple of model.patch_px "
                    f"{self.model.patch_px}"
                )
        if self.model.width % self.model.heads:
            raise UserError(
                f"model.width is {self.model.width}, not a multiple of model.heads "
                f"{self.model.heads}"
            )
        if self.optim.warmup_epochs >= self.epochs:
            raise UserError(
                f"optim.warmup_epochs is {self.optim.warmup_epochs}, expected less than epochs "
                f"{self.epochs}"
            )
