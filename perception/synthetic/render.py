"""Rendering of room and person to colour and depth by ray casting."""

from __future__ import annotations

import numpy as np
import open3d as o3d

from perception.synthetic.room import Mesh

SUN = np.array([0.35, -0.45, 0.82])
"""Direction to the light."""
SKIN, SHIRT, TROUSERS, SHOES = (205, 160, 130), (60, 90, 150), (70, 70, 80), (40, 35, 35)
"""Colours of the person, by height in the rest pose."""


class Renderer:
    """Renders one room with a person in changing poses, seen by one camera model."""

    def __init__(
        self, room: Mesh, faces: np.ndarray, rest_vertices: np.ndarray, camera: np.ndarray, size: tuple[int, int]
    ):
        """Prepare the room's acceleration structure and the person's colours.

        Args:
            room: The room.
            faces: Triangles of the person (F, 3).
            rest_vertices: Vertices of the person in the rest pose (V, 3), for its colours, m.
            camera: Camera matrix (3, 3).
            size: Width and height, pixels.
        """
        self._room = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._room.add_triangles(_tensor(room.vertices, np.float32), _tensor(room.triangles, np.uint32))
        self._room_colours = room.colours.astype(np.float32)
        self._faces = _tensor(faces, np.uint32)
        self._person_colours = _clothes(rest_vertices[faces].mean(axis=1))
        width, height = size
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack(
            [(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)], axis=-1
        )
        self._rays = rays.astype(np.float32)
        self._camera, self._size = camera, size

    def render(self, T_world_camera: np.ndarray, *people: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return colour (H, W, 3), uint8, and depth along the camera's axis (H, W), m, infinite where nothing is.

        Args:
            T_world_camera: Pose of the camera (4, 4).
            people: Vertices of each person (V, 3), world, m; None leaves one out.
        """
        rotation = T_world_camera[:3, :3].astype(np.float32)
        directions = self._rays @ rotation.T
        origins = np.broadcast_to(T_world_camera[:3, 3].astype(np.float32), directions.shape)
        rays = np.concatenate([origins, directions], axis=-1)
        # The rays' z in the camera is 1, so the hit distance is the depth.
        colour, depth = self._cast(self._room, rays, self._room_colours)
        for person in people:
            if person is not None:
                self._cast_person(person, rays, T_world_camera, colour, depth)
        return np.clip(colour, 0, 255).astype(np.uint8), depth

    def _cast(
        self, scene: o3d.t.geometry.RaycastingScene, rays: np.ndarray, colours: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        hit = scene.cast_rays(_tensor(rays, np.float32), nthreads=1)
        depth = hit["t_hit"].numpy()
        triangle = hit["primitive_ids"].numpy()
        normal = hit["primitive_normals"].numpy()
        found = np.isfinite(depth)
        shade = 0.45 + 0.55 * np.abs(normal @ (SUN / np.linalg.norm(SUN)).astype(np.float32))
        picked = colours[np.where(found, triangle, 0)]
        return np.where(found[..., None], picked * shade[..., None], 0.0), depth

    def _cast_person(
        self, person: np.ndarray, rays: np.ndarray, T_world_camera: np.ndarray, colour: np.ndarray, depth: np.ndarray
    ) -> None:
        """Cast only the rays inside the person's image rectangle; draw over what is behind."""
        seen = (person - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
        front = seen[seen[:, 2] > 0.1]
        if len(front) == 0:
            return
        u = front[:, 0] / front[:, 2] * self._camera[0, 0] + self._camera[0, 2]
        v = front[:, 1] / front[:, 2] * self._camera[1, 1] + self._camera[1, 2]
        width, height = self._size
        left, right = max(0, int(u.min()) - 1), min(width, int(u.max()) + 3)
        top, bottom = max(0, int(v.min()) - 1), min(height, int(v.max()) + 3)
        if left >= right or top >= bottom:
            return
        scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(_tensor(person, np.float32), self._faces)
        window = (slice(top, bottom), slice(left, right))
        person_colour, person_depth = self._cast(scene, np.ascontiguousarray(rays[window]), self._person_colours)
        nearer = person_depth < depth[window]
        colour[window][nearer] = person_colour[nearer]
        depth[window][nearer] = person_depth[nearer]


def _tensor(array: np.ndarray, dtype: type) -> o3d.core.Tensor:
    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(array, dtype=dtype))


def _clothes(centres: np.ndarray) -> np.ndarray:
    height = centres[:, 2]
    colours = np.tile(np.array(SHIRT, np.float32), (len(height), 1))
    colours[height < -0.02] = TROUSERS
    colours[height < -0.84] = SHOES
    colours[height > 0.50] = SKIN
    hands = np.abs(centres[:, 1]) > 0.42
    colours[hands & (height > -0.3)] = SKIN
    return colours
