from __future__ import annotations

import pytest
import torch

from policy.optim.orthogonal import Method, orthogonalise


def with_singular_values(values: torch.Tensor, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A matrix (rows, columns) of these singular values and random directions."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64))
    return (left * values @ right.T).float()


def image(method: Method, lowest: float) -> tuple[float, float]:
    """Smallest and largest singular value that come out where `lowest` to 1 of the Frobenius norm go in.

    Diagonal matrices of two values, of Frobenius norm one, show the iteration's polynomial point by point.
    """
    small = torch.logspace(torch.tensor(lowest).log10().item(), -0.151, 4000)
    pairs = torch.stack([small, (1 - small**2).sqrt()], dim=-1)
    out = orthogonalise(torch.diag_embed(pairs), method).diagonal(dim1=-2, dim2=-1)
    return out.min().item(), out.max().item()


@pytest.mark.parametrize(
    ("method", "lowest", "low", "high"),
    [
        ("newton_schulz", 1e-2, 0.682, 1.134),
        ("newton_schulz", 1e-3, 0.471, 1.202),
        ("polar_express", 1e-2, 0.859, 1.141),
        ("polar_express", 1e-3, 0.847, 1.141),
    ],
)
def test_singular_values_end_in_the_known_range(method: Method, lowest: float, low: float, high: float) -> None:
    smallest, largest = image(method, lowest)
    assert smallest > low - 2e-3 and largest < high + 2e-3
    # The range is also used: its lower end is met (the highest value may lie where no pair falls).
    assert smallest == pytest.approx(low, abs=0.06)


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (24, 24)])
@pytest.mark.parametrize("method", ["newton_schulz", "polar_express", "svd"])
def test_keeps_the_directions(method: Method, shape: tuple[int, int]) -> None:
    """Singular vectors stay: U^T X V is diagonal and near one for a matrix of every shape and size."""
    values = torch.logspace(0, -1, min(shape), dtype=torch.float64)
    matrix = 37.0 * with_singular_values(values, *shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonalise(matrix, method) @ right.T
    diagonal = inner.diagonal()
    assert (inner - torch.diag(diagonal)).abs().max() < 2e-3
    assert diagonal.min() > 0.68 and diagonal.max() < 1.21
    if method == "svd":
        torch.testing.assert_close(diagonal, torch.ones_like(diagonal), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["newton_schulz", "polar_express", "svd"])
def test_zero_stays_zero_and_batches_do_not_mix(method: Method) -> None:
    stack = torch.stack([torch.zeros(3, 4), torch.randn(3, 4), 1e-3 * torch.randn(3, 4)])
    out = orthogonalise(stack, method)
    assert torch.equal(out[0], torch.zeros(3, 4))
    for one, together in zip(stack, out, strict=True):
        torch.testing.assert_close(orthogonalise(one, method), together, atol=1e-5, rtol=0)


def test_works_in_float32_on_a_cpu() -> None:
    """No bfloat16 in between: a matrix that is orthogonal up to its size is met to float32's precision by "svd"."""
    matrix = with_singular_values(torch.ones(8, dtype=torch.float64), 8, 8)
    torch.testing.assert_close(orthogonalise(5.0 * matrix, "svd"), matrix, atol=2e-6, rtol=0)
    first, second = orthogonalise(matrix), orthogonalise(matrix.double())
    assert first.dtype == torch.float32 and second.dtype == torch.float64
    # Equal singular values come out equal: a multiple of the matrix, to float32's precision.
    ratio = first / matrix
    assert (ratio - ratio.mean()).abs().median() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: only there are the products in bfloat16")
@pytest.mark.parametrize("method", ["newton_schulz", "polar_express"])
def test_works_in_bfloat16_on_a_gpu(method: Method) -> None:
    """Eight bits of mantissa, so the result differs from the CPU's by about one in a hundred."""
    matrix = with_singular_values(torch.logspace(0, -1, 32, dtype=torch.float64), 64, 32)
    found = orthogonalise(matrix.cuda(), method)
    assert found.is_cuda and found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())
    assert (found.cpu() - orthogonalise(matrix, method)).abs().max() < 0.03
