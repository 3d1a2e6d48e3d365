"""Normal equations of a clip: blocks per frame, coupled to the next two frames, solved as one banded system."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch


class ClipEquations:
    """Accumulates the normal equations of T frames of n parameters each and of a few parameters of the whole clip.

    Every term is a weighted squared residual; `rows` are its derivatives. The step that `solve` returns lowers the sum.
    """

    def __init__(self, frames: int, size: int, shared: int) -> None:
        """Start with no terms."""
        self.frames, self.size, self.shared = frames, size, shared
        self._diagonal = torch.zeros(frames, size, size, dtype=torch.float64)
        self._next = torch.zeros(max(frames - 1, 0), size, size, dtype=torch.float64)
        self._after = torch.zeros(max(frames - 2, 0), size, size, dtype=torch.float64)
        self._right = torch.zeros(frames, size, dtype=torch.float64)
        self._cross = torch.zeros(frames, size, shared, dtype=torch.float64)
        self._shared = torch.zeros(shared, shared, dtype=torch.float64)
        self._shared_right = torch.zeros(shared, dtype=torch.float64)

    def add(
        self,
        rows: torch.Tensor,
        residual: torch.Tensor,
        weight: torch.Tensor,
        shared_rows: torch.Tensor | None = None,
        start: int = 0,
    ) -> None:
        """Add residuals of single frames.

        Args:
            rows: Derivatives (B, R, n) of frames `start` to `start` + B.
            residual: Values (B, R).
            weight: Weights (B, R).
            shared_rows: Derivatives (B, R, s) by the parameters of the whole clip.
            start: First frame.
        """
        part = slice(start, start + len(rows))
        weighted = rows * weight[..., None]
        self._diagonal[part] += weighted.transpose(1, 2) @ rows
        self._right[part] -= (weighted.transpose(1, 2) @ residual[..., None])[..., 0]
        if shared_rows is not None:
            self._cross[part] += weighted.transpose(1, 2) @ shared_rows
            flat, scaled = shared_rows.flatten(0, 1).double(), (shared_rows * weight[..., None]).flatten(0, 1).double()
            self._shared += scaled.T @ flat
            self._shared_right -= scaled.T @ residual.flatten().double()

    def add_differences(self, rows: torch.Tensor, values: torch.Tensor, weight: torch.Tensor) -> None:
        """Add first differences in time: rows (T, R, n), values (T, R), weights (T - 1, R)."""
        pull = weight * (values[1:] - values[:-1])
        back = torch.zeros_like(values)
        back[:-1] -= pull
        back[1:] += pull
        own = torch.zeros_like(values)
        own[:-1] += weight
        own[1:] += weight
        self._right -= (rows.transpose(1, 2) @ back[..., None])[..., 0]
        self._diagonal += rows.transpose(1, 2) @ (rows * own[..., None])
        self._next -= rows[1:].transpose(1, 2) @ (rows[:-1] * weight[..., None])

    def add_accelerations(self, rows: torch.Tensor, values: torch.Tensor, weight: torch.Tensor) -> None:
        """Add second differences in time: rows (T, R, n), values (T, R), weights (R,)."""
        if self.frames < 3:
            return
        second = values[2:] - 2 * values[1:-1] + values[:-2]
        back = torch.zeros_like(values)
        back[:-2] += second
        back[1:-1] -= 2 * second
        back[2:] += second
        # The matrix D^T D of second differences, its ends included.
        ones = torch.ones(self.frames - 2, dtype=values.dtype)
        own, beside = torch.zeros(self.frames, dtype=values.dtype), torch.zeros(self.frames - 1, dtype=values.dtype)
        own[:-2] += ones
        own[1:-1] += 4 * ones
        own[2:] += ones
        beside[:-1] -= 2 * ones
        beside[1:] -= 2 * ones
        scaled = rows * weight[:, None]
        self._right -= (scaled.transpose(1, 2) @ back[..., None])[..., 0]
        self._diagonal += own[:, None, None] * (rows.transpose(1, 2) @ scaled)
        self._next += beside[:, None, None] * (rows[1:].transpose(1, 2) @ scaled[:-1])
        self._after += rows[2:].transpose(1, 2) @ scaled[:-2]

    def add_shared(self, residual: torch.Tensor, weight: float) -> None:
        """Add a pull of the whole clip's parameters: residual (s,), derivative one."""
        self._shared += weight * torch.eye(self.shared, dtype=torch.float64)
        self._shared_right -= weight * residual.double()

    def solve_frames(self, damping: float) -> torch.Tensor:
        """Return the step (T, n) of frames that are not coupled; the whole clip's parameters stay."""
        matrix = self._diagonal + damping * torch.eye(self.size, dtype=torch.float64)
        return torch.linalg.solve(matrix, self._right).float()

    def solve(self, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the step of all frames (T, n) and of the whole clip's parameters (s,).

        The whole clip's parameters border the band: they are eliminated last (Schur complement).
        """
        n, frames = self.size, self.frames
        # Lower band storage: entry k of column j is the matrix at row j + k; a column's entries lie side by side.
        band = np.zeros((frames, n, 3 * n))
        own, following, after = self._diagonal.numpy(), self._next.numpy(), self._after.numpy()
        for column in range(n):
            band[:, column, : n - column] = own[:, column:, column]
            band[: len(following), column, n - column : 2 * n - column] = following[:, :, column]
            band[: len(after), column, 2 * n - column : 3 * n - column] = after[:, :, column]
        band[:, :, 0] += damping
        right = torch.cat([self._right[..., None], self._cross], dim=2).flatten(0, 1).numpy()
        storage = band.reshape(frames * n, 3 * n).T
        solved = scipy.linalg.solveh_banded(storage, right, lower=True, overwrite_ab=True, check_finite=True)
        cross = self._cross.flatten(0, 1).numpy()
        bordered = self._shared.numpy() - cross.T @ solved[:, 1:]
        shared = np.linalg.solve(bordered, self._shared_right.numpy() - cross.T @ solved[:, 0])
        step = solved[:, 0] - solved[:, 1:] @ shared
        return torch.as_tensor(step.reshape(self.frames, n)).float(), torch.as_tensor(shared).float()
