from __future__ import annotations

import numpy as np
import torch

from perception.clip_solver import ClipEquations

FRAMES, SIZE, SHARED, ROWS = 6, 4, 2, 7


class Dense:
    """The same least squares as one dense matrix."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.values: list[float] = []

    def add(self, blocks: dict[int, np.ndarray], value: float, weight: float, shared: np.ndarray | None = None) -> None:
        row = np.zeros(FRAMES * SIZE + SHARED)
        for frame, block in blocks.items():
            row[frame * SIZE : (frame + 1) * SIZE] += block
        if shared is not None:
            row[-SHARED:] = shared
        self.rows.append(np.sqrt(weight) * row)
        self.values.append(np.sqrt(weight) * value)

    def solve(self, damping: float) -> np.ndarray:
        J, r = np.array(self.rows), np.array(self.values)
        ridge = np.concatenate([np.full(FRAMES * SIZE, damping), np.zeros(SHARED)])
        return np.linalg.solve(J.T @ J + np.diag(ridge), -J.T @ r)


def random_terms(seed: int) -> tuple[ClipEquations, Dense]:
    rng = np.random.default_rng(seed)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.as_tensor(rng.normal(size=shape), dtype=torch.float64)

    equations, dense = ClipEquations(FRAMES, SIZE, SHARED), Dense()
    rows, values, weight, shared = tensor(4, ROWS, SIZE), tensor(4, ROWS), tensor(4, ROWS).abs(), tensor(4, ROWS, 2)
    equations.add(rows, values, weight, shared, start=2)
    for b in range(4):
        for k in range(ROWS):
            dense.add({2 + b: rows[b, k].numpy()}, float(values[b, k]), float(weight[b, k]), shared[b, k].numpy())
    rows, values, weight = tensor(FRAMES, ROWS, SIZE), tensor(FRAMES, ROWS), tensor(FRAMES - 1, ROWS).abs()
    equations.add_differences(rows, values, weight)
    for t in range(FRAMES - 1):
        for k in range(ROWS):
            blocks = {t: -rows[t, k].numpy(), t + 1: rows[t + 1, k].numpy()}
            dense.add(blocks, float(values[t + 1, k] - values[t, k]), float(weight[t, k]))
    rows, values, weight = tensor(FRAMES, ROWS, SIZE), tensor(FRAMES, ROWS), tensor(ROWS).abs()
    equations.add_accelerations(rows, values, weight)
    for t in range(FRAMES - 2):
        for k in range(ROWS):
            blocks = {t: rows[t, k].numpy(), t + 1: -2 * rows[t + 1, k].numpy(), t + 2: rows[t + 2, k].numpy()}
            second = float(values[t, k] - 2 * values[t + 1, k] + values[t + 2, k])
            dense.add(blocks, second, float(weight[k]))
    equations.add_shared(torch.tensor([0.3, -0.2]), 0.7)
    for k, value in enumerate((0.3, -0.2)):
        dense.add({}, value, 0.7, np.eye(SHARED)[k])
    return equations, dense


def test_step_is_that_of_the_dense_least_squares():
    for seed in range(3):
        equations, dense = random_terms(seed)
        step, shared = equations.solve(0.05)
        expected = dense.solve(0.05)
        np.testing.assert_allclose(step.numpy().ravel(), expected[:-SHARED], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shared.numpy(), expected[-SHARED:], rtol=1e-4, atol=1e-5)


def test_frames_that_are_not_coupled_solve_alone():
    generator = torch.Generator().manual_seed(0)
    rows, values = torch.randn(3, 9, SIZE, generator=generator), torch.randn(3, 9, generator=generator)
    equations = ClipEquations(3, SIZE, 0)
    equations.add(rows, values, torch.ones(3, 9))
    alone = equations.solve_frames(0.1)
    together, shared = equations.solve(0.1)
    assert shared.shape == (0,)
    torch.testing.assert_close(alone, together)
    normal = rows.transpose(1, 2) @ rows + 0.1 * torch.eye(SIZE)
    expected = torch.linalg.solve(normal, -(rows.transpose(1, 2) @ values[..., None]))[..., 0]
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


def test_clips_of_one_and_two_frames_have_no_accelerations():
    for frames in (1, 2):
        equations = ClipEquations(frames, SIZE, 0)
        rows = torch.eye(SIZE).expand(frames, -1, -1)
        equations.add(rows, torch.ones(frames, SIZE), torch.ones(frames, SIZE))
        equations.add_accelerations(rows, torch.rand(frames, SIZE), torch.full((SIZE,), 1e6))
        step, _ = equations.solve(0.0)
        torch.testing.assert_close(step, -torch.ones(frames, SIZE))


def test_equations_without_a_solution_give_no_number():
    for value in (torch.nan, 0.0):
        equations = ClipEquations(3, SIZE, 0)
        equations.add(value * torch.ones(3, 1, SIZE), torch.ones(3, 1), torch.ones(3, 1))
        assert not torch.isfinite(equations.solve(0.0)[0]).any()
