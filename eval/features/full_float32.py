"""float32 computed as float32, whatever torch was told.

TF32 is off by default in products, but on in convolutions, and a program that has asked for it
("high", `allow_tf32`) has it in all: an error of 1e-3 in a cosine, which Eq. 6 multiplies by 1/tau.
On a CPU the same settings allow oneDNN bfloat16, where the processor has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 in float32 products and convolutions inside; autocast is as it was.

    The settings are of the whole process, and are restored after.
    """
    parts = _parts()
    before = [part.fp32_precision for part in parts]
    _set(parts, ["ieee"] * len(parts))
    # Only now: torch does not tell an old setting that contradicts a new one.
    matmul = torch.get_float32_matmul_precision()
    try:
        tf32_convolutions = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        tf32_convolutions = True  # it does contradict
    try:
        # The old ones too, so that code inside can ask for them.
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        _set(parts, ["ieee"] * len(parts))
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = tf32_convolutions
        _set(parts, before)


def _parts() -> list[Any]:
    """What has a precision of its own: nothing before torch 2.9, whose old settings say all."""
    backends: Any = torch.backends
    cuda, cpu = backends.cudnn, backends.mkldnn
    if not hasattr(cuda, "conv"):
        return []
    return [backends.cuda.matmul, cuda.conv, cuda.rnn, cpu.matmul, cpu.conv, cpu.rnn]


def _set(parts: list[Any], precisions: list[str]) -> None:
    for part, precision in zip(parts, precisions, strict=True):
        part.fp32_precision = precision
