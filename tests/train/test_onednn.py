"""float32 products by oneDNN, compared with numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from train.networks.backbone import build_backbone
from train.networks.onednn import Linear, linear, packed, product, use_onednn
from train.recipes import demo_cpu

CPU = torch.device("cpu")
SHAPES = [(7, 5, 3), (1, 8, 8), (257, 48, 144), (514, 96, 33)]
"""Sizes of products: rows, inputs, outputs."""


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(ours: torch.Tensor, exact: np.ndarray) -> float:
    assert ours.dtype == torch.float32
    assert ours.shape == exact.shape
    return float(np.abs(ours.detach().numpy() - exact).max() / np.abs(exact).max())


def exact(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.fixture
def torch_calls(monkeypatch) -> list[str]:
    """Record the calls of torch's own product."""
    calls: list[str] = []
    torchs = functional.linear

    def counted(*args: object) -> torch.Tensor:
        calls.append("torch")
        return torchs(*args)

    monkeypatch.setattr(functional, "linear", counted)
    return calls


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape, has_bias) -> None:
    count, inputs, outputs = shape
    rows, weight = drawn(count, inputs, seed=0), drawn(outputs, inputs, seed=1)
    bias = drawn(outputs, seed=2) if has_bias else None
    grad = drawn(count, outputs, seed=3)
    leaves = [leaf.requires_grad_() for leaf in (rows, weight, bias) if leaf is not None]
    found = linear(rows, weight, bias)
    found.backward(grad)
    x, w, g = exact(rows), exact(weight), exact(grad)
    b = exact(bias) if bias is not None else 0.0
    assert error(found, x @ w.T + b) < 2e-6
    for leaf, expected in zip(leaves, [g @ w, g.T @ x, g.sum(0)], strict=False):
        assert error(leaf.grad, expected) < 2e-6


def test_any_leading_shape_and_layout() -> None:
    """Inputs [n, T, d] with a stride between tokens, and an expanded gradient."""
    rows = drawn(5, 3, 16, seed=0).transpose(0, 1).requires_grad_()
    weight = drawn(16, 4, seed=1).T.requires_grad_()
    found = linear(rows, weight, None)
    found.sum().backward()
    assert error(found, exact(rows) @ exact(weight).T) < 2e-6
    ones = np.ones((3, 5, 4))
    assert error(rows.grad, ones @ exact(weight)) < 2e-6
    assert error(weight.grad, np.einsum("abo,abi->oi", ones, exact(rows))) < 2e-6


def test_only_what_is_asked_for_has_a_gradient() -> None:
    rows, weight, bias = drawn(6, 4, seed=0), drawn(3, 4, seed=1), drawn(3, seed=2)
    linear(rows, weight.requires_grad_(), bias).sum().backward()
    assert rows.grad is None
    assert bias.grad is None
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_torchs(torch_calls, dtype) -> None:
    rows, weight = drawn(6, 4, seed=0).to(dtype), drawn(3, 4, seed=1).to(dtype)
    assert linear(rows, weight, None).dtype == dtype
    assert torch_calls == ["torch"]


def test_autocast_is_torchs(torch_calls) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(drawn(6, 4, seed=0), drawn(3, 4, seed=1), None).dtype == torch.bfloat16
    assert torch_calls == ["torch"]


def test_one_row_without_a_dimension() -> None:
    rows, weight = drawn(4, seed=0), drawn(3, 4, seed=1)
    assert error(linear(rows, weight, None), exact(weight) @ exact(rows)) < 2e-6


def test_no_rows() -> None:
    assert linear(torch.empty(0, 4), torch.empty(3, 4), None).shape == (0, 3)
    weight = drawn(3, 4, seed=0).requires_grad_()
    found = linear(torch.empty(2, 0, 4), weight, None)
    assert found.shape == (2, 0, 3)
    found.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(3, 4))


def test_layers_keep_weights_names_and_results() -> None:
    network = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 2, bias=False))
    rows = drawn(9, 8, seed=0)
    with torch.no_grad():
        before = network(rows)
    names = list(network.state_dict())
    use_onednn(network)
    assert [type(module) for module in network] == [Linear, nn.GELU, Linear]
    assert list(network.state_dict()) == names
    with torch.no_grad():
        assert (network(rows) - before).abs().max() < 1e-6


def test_subclasses_of_layers_are_left_alone() -> None:
    class Scaled(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    network = nn.Sequential(Scaled(4, 3))
    use_onednn(network)
    assert type(network[0]) is Scaled


def test_a_graph_that_is_exported_has_torchs_layers() -> None:
    network = nn.Sequential(Linear(8, 6), nn.GELU(), Linear(6, 2)).eval()
    program = torch.export.export(network, (drawn(4, 8, seed=0),))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("aten.linear" in target for target in targets) == 2
    assert not any("mkldnn" in target for target in targets)


def test_a_backbone_on_a_cpu_uses_them(torch_calls) -> None:
    backbone = build_backbone(demo_cpu().model, 28, CPU).eval()
    layers = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
    assert layers
    assert all(type(layer) is Linear for layer in layers)
    backbone(torch.zeros(1, 3, 28, 28))
    assert torch_calls == []


def test_products_with_a_packed_matrix() -> None:
    for count, inputs, outputs in SHAPES:
        rows, matrix = drawn(count, inputs, seed=0), drawn(outputs, inputs, seed=1)
        assert error(product(rows, packed(matrix)), exact(rows) @ exact(matrix).T) < 2e-6
