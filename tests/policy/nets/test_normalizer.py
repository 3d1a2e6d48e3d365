from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.nets.normalizer import RunningNorm


def batches(sizes: list[int], seed: int, scale: float, offset: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    # Each batch has its own mean, so that the merge of the means matters.
    return [(offset + scale * (rng.standard_normal((n, 3)) + rng.uniform(-2, 2, 3))).astype(np.float32) for n in sizes]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(0, 1000),
    st.floats(0.01, 100),
    st.floats(-10, 10),
)
def test_batches_merge_to_the_statistics_of_everything(
    sizes: list[int], seed: int, scale: float, offset: float
) -> None:
    """After any batches, mean, variance and count are numpy's over all rows together."""
    parts = batches(sizes, seed, scale, offset)
    norm = RunningNorm(3)
    for part in parts:
        norm.update(torch.as_tensor(part))
    everything = np.concatenate(parts).astype(np.float64)
    size = scale + abs(offset)
    np.testing.assert_allclose(norm.mean.numpy(), everything.mean(axis=0), rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(norm.var.numpy(), everything.var(axis=0), rtol=1e-3, atol=1e-5 * size**2)
    assert norm.count.item() == sum(sizes)


def test_two_batches_by_hand() -> None:
    # {1, 3} has mean 2, variance 1; {7} has mean 7, variance 0. Together: mean 11 / 3, variance 56 / 9.
    norm = RunningNorm(1)
    norm.update(torch.tensor([[1.0], [3.0]]))
    assert (norm.mean.item(), norm.var.item()) == (2.0, 1.0), "the start value counts for nothing"
    norm.update(torch.tensor([[7.0]]))
    np.testing.assert_allclose([norm.mean.item(), norm.var.item()], [11 / 3, 56 / 9], rtol=1e-6)


def test_many_batches_do_not_drift() -> None:
    """A thousand batches around 1000 with spread 1 still give spread 1 in float32."""
    rng = np.random.default_rng(0)
    norm = RunningNorm(2)
    for _ in range(1000):
        norm.update(torch.as_tensor((1000 + rng.standard_normal((64, 2))).astype(np.float32)))
    np.testing.assert_allclose(norm.mean.numpy(), 1000, atol=0.02)
    np.testing.assert_allclose(norm.var.numpy(), 1.0, rtol=0.02)


def test_forward_by_hand() -> None:
    norm = RunningNorm(2, epsilon=0.5, clip=3.0)
    norm.mean.copy_(torch.tensor([1.0, -1.0]))
    norm.var.copy_(torch.tensor([4.0, 0.25]))
    # (3 - 1) / (2 + 0.5) = 0.8 and (-3 + 1) / (0.5 + 0.5) = -2; the second row is beyond the bound.
    out = norm(torch.tensor([[3.0, -3.0], [100.0, -100.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.8, -2.0], [3.0, -3.0]]))


def test_a_constant_input_stays_small() -> None:
    norm = RunningNorm(1)
    norm.update(torch.full((100, 1), 5.0))
    assert norm(torch.tensor([[5.0]])).item() == 0.0
    # The spread is zero, so only epsilon (0.01) divides: 0.001 / 0.01 = 0.1.
    assert abs(norm(torch.tensor([[5.001]])).item() - 0.1) < 1e-3


def test_statistics_travel_with_the_state_and_learn_no_gradient() -> None:
    norm = RunningNorm(2)
    norm.update(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)).requires_grad_())
    other = RunningNorm(2)
    other.load_state_dict(norm.state_dict())
    for name in ("mean", "var", "count"):
        assert torch.equal(getattr(other, name), getattr(norm, name))
    assert list(norm.parameters()) == [] and not norm.mean.requires_grad
    assert other.count.dtype == torch.float64, "a count beyond 2**24 rows must go on counting"
