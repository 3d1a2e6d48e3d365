"""Normal equations of a clip: blocks per frame, coupled to the next two frames, solved as one banded system."""

from __future__ import annotations

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
        """Return the step of all frames (T, n) and of the whole clip's parameters (s,); not finite where they diverged.

        The whole clip's parameters border the band: they are eliminated last (Schur complement).
        """
        cross = self._cross.flatten(0, 1)
        solved = self._solve_band(torch.cat([self._right[..., None], self._cross], dim=2), damping)
        bordered = self._shared - cross.T @ solved[:, 1:]
        shared = torch.linalg.solve(bordered, self._shared_right - cross.T @ solved[:, 0])
        step = solved[:, 0] - solved[:, 1:] @ shared
        return step.reshape(self.frames, self.size).float(), shared.float()

    def _solve_band(self, right: torch.Tensor, damping: float) -> torch.Tensor:
        """Return the solution (T n, k) of the frames' equations for right sides (T, n, k), by a block Cholesky.

        Two frames make a block, so that a block is coupled to the next one alone.
        """
        n, count = self.size, (self.frames + 1) // 2
        own = torch.eye(2 * n, dtype=torch.float64).repeat(count, 1, 1)
        ridge = damping * torch.eye(n, dtype=torch.float64)
        own[:, :n, :n] = self._diagonal[0::2] + ridge
        own[: self.frames // 2, n:, n:] = self._diagonal[1::2] + ridge
        own[: self.frames // 2, n:, :n] = self._next[0::2]
        below = torch.zeros(max(count - 1, 0), 2 * n, 2 * n, dtype=torch.float64)
        below[:, :n, :n], below[:, :n, n:] = self._after[0::2], self._next[1::2]
        odd = self._after[1::2]
        below[: len(odd), n:, n:] = odd
        sides = torch.zeros(2 * count, n, right.shape[2], dtype=torch.float64)
        sides[: self.frames] = right
        sides = sides.view(count, 2 * n, -1)
        lower, back = [], []
        for block in range(count):
            factor, failed = torch.linalg.cholesky_ex(own[block])
            if failed:
                factor.fill_(torch.nan)
            known = sides[block]
            if block + 1 < count:
                known = torch.cat([below[block].T, known], dim=1)
            known = torch.linalg.solve_triangular(factor, known, upper=False)
            coupled, sides[block] = known[:, : -sides.shape[2]], known[:, -sides.shape[2] :]
            if block + 1 < count:
                own[block + 1] -= coupled.T @ coupled
                sides[block + 1] -= coupled.T @ sides[block]
            lower.append(factor)
            back.append(coupled)
        for block in reversed(range(count)):
            if block + 1 < count:
                sides[block] -= back[block] @ sides[block + 1]
            sides[block] = torch.linalg.solve_triangular(lower[block].T, sides[block], upper=True)
        return sides.view(2 * count * n, -1)[: self.frames * n]
