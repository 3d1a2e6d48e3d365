from __future__ import annotations

import numpy as np
import torch

from perception.sight import BLOCK, STRIDE, sight_of
from perception.views import View

K = np.array([[130.0, 0, 79.5], [0, 130.0, 59.5], [0, 0, 1]])
PERIOD = 100_000_000


def view(depths: np.ndarray, start_ns: int = 0) -> View:
    """A camera at the origin that looks along +z."""
    frames = len(depths)
    times = start_ns + PERIOD * np.arange(frames)
    return View("camera", K, times, np.tile(np.eye(4), (frames, 1, 1)), depths, [None] * frames)


def test_distances_in_front_of_a_wall():
    depths = np.full((2, 120, 160), 3000, np.uint16)
    sight = sight_of([view(depths)], PERIOD * np.arange(2))
    points = torch.tensor([[0.0, 0.0, 2.5], [0.5, -0.3, 3.2], [9.0, 0.0, 2.0], [0.0, 0.0, -1.0]]).expand(2, -1, -1)
    near, far = sight.look(points)
    assert near.shape == (2, 1, 4)
    for gap in (near, far):
        torch.testing.assert_close(gap[:, 0, :2], torch.tensor([0.5, -0.2]).expand(2, -1), atol=1e-3, rtol=0)
        # Outside the image, and behind the camera.
        assert gap[:, 0, 2:].isnan().all()
    torch.testing.assert_close(sight.eyes(0, 2), torch.zeros(2, 1, 3))


def test_a_block_on_a_silhouette_holds_both_depths():
    size = STRIDE * BLOCK
    depths = np.full((1, 120, 160), 4000, np.uint16)
    edge = 13 * size + STRIDE
    depths[:, :, :edge] = 1500
    sight = sight_of([view(depths)], np.array([0, PERIOD]))
    column = 13 * size + 0.5 * (BLOCK - 1) * STRIDE
    point = torch.tensor([[[(column - 79.5) / 130.0 * 2.0, 0.0, 2.0]]], dtype=torch.float32)
    near, far = sight.look(point)
    torch.testing.assert_close(near[0, 0], torch.tensor([-0.5]), atol=1e-3, rtol=0)
    torch.testing.assert_close(far[0, 0], torch.tensor([2.0]), atol=1e-3, rtol=0)


def test_points_project_into_the_blocks_that_saw_them():
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, 120, 60), rng.integers(0, 156, 60)
    depths = (1000 + 7 * np.arange(160)[None] + 11 * np.arange(120)[:, None]).astype(np.uint16)[None]
    z = depths[0, row, column] / 1000
    points = np.stack([(column - 79.5) / 130 * z, (row - 59.5) / 130 * z, z], axis=1)
    near, far = sight_of([view(depths)], np.array([0, PERIOD])).look(torch.as_tensor(points[None], dtype=torch.float32))
    # A pixel's own depth lies between the nearest and the farthest of its block, of which every second pixel counts.
    assert near.max() <= 0.02 and far.min() >= -0.02
    assert near.min() > -0.12 and far.max() < 0.12


def test_holes_and_missing_frames_say_nothing():
    depths = np.full((1, 120, 160), 2000, np.uint16)
    depths[0, :, 80:] = 0
    sight = sight_of([view(depths)], np.array([0, 5 * PERIOD]))
    points = torch.tensor([[0.4, 0.0, 1.0], [-0.4, 0.0, 1.0]]).expand(2, -1, -1)
    near, _ = sight.look(points)
    assert near[0, 0, 0].isnan()
    torch.testing.assert_close(near[0, 0, 1], torch.tensor(1.0))
    # No image was taken within half a period of the second time.
    assert near[1].isnan().all()
    torch.testing.assert_close(sight.part(np.array([1])).look(points[1:])[0], near[1:], equal_nan=True)
