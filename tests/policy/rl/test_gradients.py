from __future__ import annotations

import math

import pytest
import torch

from policy.rl.gradients import Gradients


def net_and_loss() -> tuple[torch.nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    return net, net(torch.randn(5, 3)).square().sum()


@pytest.mark.parametrize("largest", [0.5, 1e3, math.inf])
def test_they_are_those_of_torch_clipped_as_torch_does(largest: float) -> None:
    net, loss = net_and_loss()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), largest)
    assert net.weight.grad is not None and net.bias.grad is not None
    expected = torch.cat([net.weight.grad.flatten(), net.bias.grad])
    other, loss = net_and_loss()
    with Gradients(list(other.parameters())) as gradients:
        gradients.flat.fill_(7.0)
        gradients.empty()
        loss.backward()
        torch.testing.assert_close(gradients.clip(largest), norm)
        torch.testing.assert_close(gradients.flat, expected)
        # An optimizer sees them as the parameters' own.
        assert other.bias.grad is not None
        torch.testing.assert_close(other.bias.grad, expected[-2:])


def test_afterwards_there_are_none() -> None:
    net, loss = net_and_loss()
    with pytest.raises(RuntimeError, match="stop"), Gradients(list(net.parameters())):
        loss.backward()
        raise RuntimeError("stop")
    assert all(parameter.grad is None for parameter in net.parameters())
