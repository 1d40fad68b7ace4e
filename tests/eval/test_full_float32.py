"""`full_float32` switches off TF32 and bfloat16, and restores the settings of torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from eval.features.embed import embed
from eval.features.full_float32 import full_float32
from eval.scores.cosine import NAMES, score
from eval.scores.neighbours import nearest

backends: Any = torch.backends
NEW = (
    [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    + [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    if hasattr(backends.cudnn, "conv")
    else []
)
MIXES = [
    {},
    {"matmul": "high"},
    {"matmul": "medium"},
    {"convolutions": False},
    {"matmul": "high", "convolutions": False},
    # These settings contradict each other, so that torch refuses to read the old ones.
    {"new": ["tf32", "ieee", "ieee", "bf16", "ieee", "bf16"]},
    {"new": ["none", "none", "none", "none", "none", "none"], "generic": "tf32"},
    {"matmul": "high", "new": ["ieee", "tf32", "ieee", "ieee", "ieee", "none"]},
    {"matmul": "medium", "convolutions": False, "new": ["ieee"] * 6, "generic": "bf16"},
]


@pytest.fixture
def settings() -> Iterator[None]:
    """Make any warning an error, and restore the settings of torch afterwards."""
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        torch.set_warn_always(False)
        ask({"generic": "none"} if NEW else {})
        ask({"matmul": "highest", "convolutions": True})


def ask(mix: dict[str, Any]) -> None:
    if "generic" in mix:
        backends.fp32_precision = mix["generic"]
    if "matmul" in mix:
        torch.set_float32_matmul_precision(mix["matmul"])
    if "convolutions" in mix:
        backends.cudnn.allow_tf32 = mix["convolutions"]
    for part, precision in zip(NEW, mix.get("new", ()), strict=False):
        part.fp32_precision = precision


def told() -> list[Any]:
    """Return the settings of torch, "contradiction" for one that it refuses to read."""
    found = [part.fp32_precision for part in NEW]
    for question in (
        torch.get_float32_matmul_precision,
        lambda: backends.cuda.matmul.allow_tf32,
        lambda: backends.cudnn.allow_tf32,
    ):
        try:
            found.append(question())
        except RuntimeError:
            found.append("contradiction")
    return found


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_settings_are_off_inside_and_restored_after_an_error(settings, mix):
    if not NEW and {"new", "generic"} & mix.keys():
        pytest.skip("torch before 2.9")
    ask(mix)
    before = told()
    with pytest.raises(KeyError), full_float32():
        assert told() == ["ieee"] * len(NEW) + ["highest", False, False]
        raise KeyError
    assert told() == before


class Asked(torch.nn.Module):
    """A module that records the settings with which it is called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(told())
        return images.flatten(1)


def test_features_and_scores_are_in_float32_though_the_caller_asked_for_less(settings, monkeypatch):
    asked = Asked()
    products: list[list[Any]] = []

    def noted(rows, matrix):
        products.append(told())
        return rows @ matrix.T

    for module in ("cosine", "neighbours"):
        monkeypatch.setattr(f"eval.scores.{module}.packed", lambda matrix: matrix)
        monkeypatch.setattr(f"eval.scores.{module}.product", noted)
    test, bank = torch.randn(2, 40, 300, generator=torch.Generator().manual_seed(0))
    ask({"matmul": "medium"})
    before = told()
    embed(asked, [(torch.arange(2), torch.ones(2, 3, 4, 4))], torch.device("cpu"), ids=range(2))
    score(test, bank)
    nearest(test, bank, 3, NAMES)
    assert told() == before
    assert len(asked.seen) == 1 and len(products) == 2
    for settings_inside in [*asked.seen, *products]:
        assert settings_inside == ["ieee"] * len(NEW) + ["highest", False, False]
