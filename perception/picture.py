"""Pictures of meshes by ray casting: scene and person without a window, a GPU or a display."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open3d as o3d

from bodydouble.errors import InputError

_LIGHT = np.array([0.3, -0.4, 0.87])
_SKY = np.array([0.96, 0.97, 0.98])


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with colours."""

    vertices: np.ndarray
    """Vertices (V, 3), world, m."""
    triangles: np.ndarray
    """Triangles (F, 3), indices."""
    color: np.ndarray
    """One colour (3,) or one per vertex (V, 3), 0 to 1."""


def picture(
    surfaces: Sequence[Surface],
    eye: np.ndarray,
    target: np.ndarray,
    size: tuple[int, int] = (640, 480),
    fov: float = 0.9,
) -> np.ndarray:
    """Return a shaded picture of surfaces.

    Args:
        surfaces: What is shown.
        eye: Position of the camera (3,), world, m.
        target: Point in the middle of the picture (3,), world, m.
        size: Width and height, pixels.
        fov: Vertical field of view, rad.

    Returns:
        Colours (H, W, 3), uint8.

    Raises:
        InputError: There is nothing to show.
    """
    surfaces = [surface for surface in surfaces if len(surface.triangles)]
    if not surfaces:
        raise InputError("there is no triangle to draw a picture of")
    scene = o3d.t.geometry.RaycastingScene()
    for surface in surfaces:
        scene.add_triangles(
            o3d.core.Tensor(np.asarray(surface.vertices, dtype=np.float32)),
            o3d.core.Tensor(np.asarray(surface.triangles, dtype=np.uint32)),
        )
    width, height = size
    # Open3D takes `up` along the image's rows, which run downwards.
    rays = o3d.t.geometry.RaycastingScene.create_rays_pinhole(
        fov_deg=float(np.degrees(fov)) * width / height, center=target, eye=eye, up=[0.0, 0.0, -1.0],
        width_px=width, height_px=height,
    )  # fmt: skip
    hits = scene.cast_rays(rays)
    which = hits["geometry_ids"].numpy()
    normal = hits["primitive_normals"].numpy()
    ray = rays.numpy()[..., 3:]
    normal *= -np.sign(np.sum(normal * ray, axis=-1, keepdims=True))
    light = _LIGHT / np.linalg.norm(_LIGHT)
    shade = 0.45 + 0.35 * np.clip(normal @ light, 0, 1) + 0.2 * np.abs(normal[..., 2])
    image = np.broadcast_to(_SKY, (height, width, 3)).copy()
    for index, surface in enumerate(surfaces):
        hit = which == index
        triangle = np.asarray(surface.triangles)[hits["primitive_ids"].numpy()[hit]]
        color = np.asarray(surface.color, dtype=np.float64)
        if color.ndim == 2:
            uv = hits["primitive_uvs"].numpy()[hit].astype(np.float64)
            weights = np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1)
            color = np.einsum("nk,nkc->nc", weights, color[triangle])
        image[hit] = color * shade[hit][:, None]
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)
