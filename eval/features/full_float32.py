"""Full float32 precision in matrix products and convolutions, whatever torch's settings are.

By default, torch uses TF32 in convolutions but not in matrix products. A program that asks for TF32
("high", `allow_tf32`) gets TF32 in matrix products as well. TF32 causes an error of 1e-3 in a
cosine, and Eq. 6 divides the cosine, with this error, by tau. On a CPU, the same settings allow
oneDNN to use bfloat16 if the processor has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Switch off TF32 and bfloat16 in float32 products and convolutions inside a `with` block.

    Autocast stays as it is. The settings are global to the process. They are restored at the end of
    the block.
    """
    parts = _parts()
    before = [part.fp32_precision for part in parts]
    _set(parts, ["ieee"] * len(parts))
    # torch has old and new settings, and refuses to read an old one that contradicts a new one.
    # So the old settings are read only after the new ones are set.
    matmul = torch.get_float32_matmul_precision()
    try:
        tf32_convolutions = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        tf32_convolutions = True  # torch refused, because old and new settings differ
    try:
        # The old settings are set too, so that code inside the block can read them.
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        _set(parts, ["ieee"] * len(parts))
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = tf32_convolutions
        _set(parts, before)


def _parts() -> list[Any]:
    """Return the parts of torch that have their own precision setting.

    The list is empty for torch versions before 2.9, which have no such parts.
    """
    backends: Any = torch.backends
    cuda, cpu = backends.cudnn, backends.mkldnn
    if not hasattr(cuda, "conv"):
        return []
    return [backends.cuda.matmul, cuda.conv, cuda.rnn, cpu.matmul, cpu.conv, cpu.rnn]


def _set(parts: list[Any], precisions: list[str]) -> None:
    for part, precision in zip(parts, precisions, strict=True):
        part.fp32_precision = precision
