"""The view that the network sees: the person's points, upright, as a small orthographic depth image.

Gravity is known, so the camera's height and tilt need not be learned: the image's up is the world's up and its depth
runs along the horizontal direction from the camera to the person.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

SIZE = 96
"""Rows and columns of the image."""
PIXEL_M = 0.025
"""Size of a pixel, m."""
DEPTH_REACH_M = 1.2
"""Farthest depth before and behind the centre, m."""
MIN_POINTS = 40
"""Points below which a view says nothing."""


@dataclass(frozen=True)
class CanonicalViews:
    """A batch of B views."""

    images: torch.Tensor
    """Images (B, 2, SIZE, SIZE): whether a point is in the pixel, and the nearest one's depth, m."""
    axes: torch.Tensor
    """Rows right, up and away from the camera (B, 3, 3), world."""
    centre: torch.Tensor
    """The images' centres (B, 3), world, m."""

    def to_world(self, joints: torch.Tensor) -> torch.Tensor:
        """Return joints (B, J, 3), given as right, up, away from the centre, in the world, m."""
        return joints @ self.axes + self.centre[:, None]

    def from_world(self, joints: torch.Tensor) -> torch.Tensor:
        """Return world joints (B, J, 3) as right, up, away from the centre, m."""
        return (joints - self.centre[:, None]) @ self.axes.transpose(1, 2)


def canonical_views(points: torch.Tensor, valid: torch.Tensor, eye: torch.Tensor) -> CanonicalViews:
    """Return the views of batches of points, each seen by one camera.

    Args:
        points: Points (B, P, 3), world, Z up, m.
        valid: Which of them are there (B, P), bool; at least one each.
        eye: Positions of the cameras (B, 3), world, m.
    """
    middle = torch.where(valid[..., None], points, 0.0).sum(dim=1) / valid.sum(dim=1, keepdim=True)
    away = (middle - eye) * torch.tensor([1.0, 1.0, 0.0], dtype=points.dtype, device=points.device)
    # From straight above there is no horizontal direction: any will do.
    away = away + torch.tensor([1e-6, 0.0, 0.0], dtype=points.dtype, device=points.device)
    away = away / away.norm(dim=-1, keepdim=True)
    up = torch.zeros_like(away)
    up[:, 2] = 1.0
    axes = torch.stack([torch.linalg.cross(away, up), up, away], dim=1)
    local = (points - middle[:, None]) @ axes.transpose(1, 2)
    # The median along the image's own axes, not the world's: the view of a turned scene is the same.
    shift = torch.nanmedian(torch.where(valid[..., None], local, torch.nan), dim=1).values
    local = local - shift[:, None]
    centre = middle + (shift[:, None] @ axes)[:, 0]
    column = torch.floor(local[..., 0] / PIXEL_M).long() + SIZE // 2
    row = SIZE // 2 - 1 - torch.floor(local[..., 1] / PIXEL_M).long()
    inside = valid & (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
    inside &= local[..., 2].abs() <= DEPTH_REACH_M
    # One pixel more takes what lies outside.
    place = torch.where(inside, row * SIZE + column, SIZE * SIZE)
    depth = torch.full((len(points), SIZE * SIZE + 1), torch.inf, dtype=points.dtype, device=points.device)
    depth = depth.scatter_reduce(1, place, local[..., 2], "amin")[:, :-1].reshape(-1, SIZE, SIZE)
    there = torch.isfinite(depth)
    images = torch.stack([there.to(points.dtype), torch.where(there, depth, 0.0)], dim=1)
    return CanonicalViews(images, axes, centre)
