"""Steps and stairs keep their heights and edges in the collision geometry, measured by rays in MuJoCo."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import trimesh

from sim.stage.collision import Collision, build_collision
from sim.stage.convex import ConvexConfig
from sim.stage.furniture import Box, FurnitureConfig
from sim.stage.geoms import add_static
from sim.stage.scene_mesh import SceneMesh
from sim.stage.surface import Surface
from sim.stage.treads import step_error, step_samples, top_heights

TOLERANCE_M = 0.015
STEP = [((0.6, 0.9, 0.20), (0.9, 0.3))]
"""Edges (x, y, height) of each step, and where its middle is."""
STAIRS = [((0.28, 0.9, 0.17 * k), (0.5 + 0.28 * k, -0.4)) for k in (1, 2, 3, 4)]
PLATES = [((0.4, 0.5, 0.10), (0.7, 0.2)), ((0.4, 0.5, 0.13), (0.7, -0.4))]


def scan(steps: list, yaw: float = 0.3, noise: float = 0.003, seed: int = 0) -> SceneMesh:
    """What a depth camera would make of steps on a floor: noisy, without undersides, turned about the vertical."""
    parts = []
    for size, (x, y) in steps:
        block = trimesh.creation.box(size).subdivide_to_size(0.03)
        block.apply_translation((x, y, 0.5 * size[2]))
        parts.append(block)
    mesh = trimesh.util.concatenate(parts)
    # Undersides, and what stands against another step, are never seen.
    ahead = mesh.triangles_center + 1e-4 * mesh.face_normals
    hidden = ahead[:, 2] < 1e-3
    for size, (x, y) in steps:
        half = 0.5 * np.array(size)
        hidden |= (np.abs(ahead - [x, y, half[2]]) < half).all(axis=1)
    mesh.update_faces(~hidden)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
    vertices = mesh.vertices + np.random.default_rng(seed).normal(0.0, noise, mesh.vertices.shape)
    return SceneMesh(vertices, np.asarray(mesh.faces), np.full(mesh.vertices.shape, 0.5))


def collision_of(steps: list, mode: str) -> tuple[Collision, mujoco.MjModel, mujoco.MjData]:
    found = build_collision(
        scan(steps), None, np.zeros((1, 2)), FurnitureConfig(), ConvexConfig() if mode == "convex" else None
    )
    spec = mujoco.MjSpec()
    add_static(spec, found.boxes, found.hulls)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return found, model, data


def ray(model: mujoco.MjModel, data: mujoco.MjData, start: np.ndarray, along: np.ndarray, yaw: float = 0.3) -> float:
    """Distance along a ray, both given in the steps' own axes."""
    turn = trimesh.transformations.rotation_matrix(yaw, [0, 0, 1])[:3, :3]
    return float(mujoco.mj_ray(model, data, turn @ start, turn @ along, None, 1, -1, np.zeros(1, np.int32)))


@pytest.mark.parametrize(
    ("steps", "mode"),
    [(STEP, "boxes"), (STAIRS, "boxes"), (PLATES, "boxes"), (STEP, "convex"), (PLATES, "convex")],
    ids=["step of 20 cm", "stairs of 17 cm", "plates", "step, convex", "plates, convex"],
)
def test_treads_and_edges_are_kept_to_15_mm(steps: list, mode: str) -> None:
    found, model, data = collision_of(steps, mode)
    assert found.figures["step_error_mm"] < 1000 * TOLERANCE_M and found.figures["step_missed_share"] < 0.05
    down, forward = np.array([0.0, 0.0, -1.0]), np.array([1.0, 0.0, 0.0])
    for size, (x, y) in steps:
        for dx, dy in ((0, 0), (-0.4, 0.4), (0.3, -0.4), (0.4, 0.4)):
            place = np.array([x + dx * size[0], y + dy * size[1], 2.0])
            assert 2.0 - ray(model, data, place, down) == pytest.approx(size[2], abs=TOLERANCE_M)
        # The riser, from before it, just below its tread.
        before = np.array([x - 0.5 * size[0] - 0.2, y, size[2] - 0.04])
        assert ray(model, data, before, forward) == pytest.approx(0.2, abs=TOLERANCE_M)
    # Beside the steps there is nothing.
    assert ray(model, data, np.array([-0.5, 0.0, 2.0]), down) == -1


def test_what_is_not_kept_is_measured() -> None:
    """A box that stands 30 mm too high, one that is missing, and one that is right."""
    right, high = (Box(np.array([x, 0.0, 0.1]), np.array([0.2, 0.2, h]), 0.0) for x, h in ((0.0, 0.1), (1.0, 0.13)))
    grid = np.stack(np.meshgrid(np.linspace(-0.15, 0.15, 7), np.linspace(-0.15, 0.15, 7)), -1).reshape(-1, 2)
    points = np.concatenate([np.column_stack([grid[:, 0] + x, grid[:, 1], np.full(49, 0.2)]) for x in (0.0, 1.0, 2.0)])
    tops = top_heights(points, [right, high], [])
    np.testing.assert_allclose(tops[:49], 0.2)
    np.testing.assert_allclose(tops[49:98], 0.23)
    assert np.isnan(tops[98:]).all()
    error, missed = step_error(points, [right, high], [])
    assert error == pytest.approx(0.03) and missed == pytest.approx(1 / 3)
    corners = np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-0.2, 0.2) for z in (0.0, 0.21)])
    np.testing.assert_allclose(top_heights(points, [], [corners])[:49], 0.21)
    up, level = np.tile([0.0, 0.0, 1.0], (147, 1)), np.ones(147)
    assert len(step_samples(Surface(points, up, level))) == 147
    assert len(step_samples(Surface(points + 0.5 * up, up, level))) == 0, "too high for a step"
    assert step_error(np.zeros((0, 3)), [right], []) == (0.0, 0.0)
