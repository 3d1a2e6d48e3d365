"""Orthogonalisation: U V^T of a matrix's singular value decomposition U S V^T, by matrix products alone."""

from __future__ import annotations

from typing import Literal

import torch

Method = Literal["newton_schulz", "polar_express", "svd"]
"""How a matrix is orthogonalised; "svd" is exact and slow."""

NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5
"""Coefficients (a, b, c) of x -> a x + b x^3 + c x^5 per step (Jordan et al. 2024): singular values end in 0.68 to 1.14
where they began in 0.01 to 1, relative to the Frobenius norm."""
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of Polar Express (Amsel et al. 2025, arXiv 2505.16932): 0.84 to 1.15 where they began in 0.001 to 1."""


def orthogonalise(matrix: torch.Tensor, method: Method = "newton_schulz") -> torch.Tensor:
    """Return the nearest matrix with orthonormal rows or columns, approximately; a zero matrix stays zero.

    The products are computed in float32 on a CPU and in bfloat16 on a GPU; the singular values that come out differ
    from one by what the coefficients' docstrings say.

    Args:
        matrix: Matrices (..., m, n).
        method: The iteration, or the exact decomposition.

    Returns:
        Matrices (..., m, n) in the type of `matrix`.
    """
    if method == "svd":
        left, _, right = torch.linalg.svd(matrix.float(), full_matrices=False)
        # A zero matrix has no direction; the decomposition would invent one.
        return (left @ right * (matrix != 0).any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)).to(matrix.dtype)
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    # The Gram matrix is formed on the shorter side.
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    norm = x.norm(dim=(-2, -1), keepdim=True)
    if method == "newton_schulz":
        coefficients, x = NEWTON_SCHULZ, x / norm.clamp(min=1e-7)
    else:
        # 2 % of safety, so that rounding leaves no singular value above one, where the polynomials blow up.
        coefficients, x = POLAR_EXPRESS, x / (1.02 * norm + 1e-6)
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrix.dtype)
