"""Layers multiplied by oneDNN give what torch's give, and so do their gradients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.hardware import onednn

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


def layers(inputs: int, outputs: int, bias: bool) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(inputs * 100 + outputs)
    ours = torch.nn.Linear(inputs, outputs, bias=bias)
    theirs = copy.deepcopy(ours)
    ours.__class__ = onednn.OneDNNLinear
    return ours, theirs


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_outputs_and_gradients_are_those_of_torch(
    inputs: int, outputs: int, rows: list[int], bias: bool, frozen: bool
) -> None:
    ours, theirs = layers(inputs, outputs, bias)
    seen = torch.randn(*rows, inputs)
    told = []
    for layer in (ours, theirs):
        layer.weight.requires_grad_(not frozen)
        x = seen.clone().requires_grad_()
        y = layer(x)
        (y * torch.arange(1.0, outputs + 1)).sum().backward()
        told.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    assert [one is None for one in told[0]] == [one is None for one in told[1]]
    for mine, own in zip(*told, strict=True):
        if mine is not None and own is not None:
            # sums of hundreds of terms, some of which cancel, are as exact as the largest of them
            largest = float(own.detach().abs().max()) if own.numel() else 0.0
            torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-5 * max(largest, 1.0))


def test_a_model_keeps_its_parameters_and_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    before = dict(model.named_parameters())
    onednn.use_onednn(model)
    assert [type(module) for module in model] == [onednn.OneDNNLinear, torch.nn.LayerNorm, onednn.OneDNNLinear]
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_a_model_is_left_alone_where_torch_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_faster", lambda: False)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    onednn.use_onednn(model)
    assert type(model[0]) is torch.nn.Linear


def test_lower_precisions_are_left_to_torch() -> None:
    ours, theirs = layers(8, 8, bias=True)
    x = torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
        torch.testing.assert_close(ours(x), theirs(x))
    x = x.to(torch.bfloat16)
    torch.testing.assert_close(ours.to(torch.bfloat16)(x), theirs.to(torch.bfloat16)(x))
