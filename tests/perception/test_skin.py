from __future__ import annotations

import numpy as np
import pytest
import torch

from bodydouble.frames import quat_from_rotvec
from perception.clip_fit import skin_of
from perception.skin import Skin, eyes_of, gather, match, vertex_normals


@pytest.fixture(scope="module")
def skin() -> Skin:
    return Skin(120)


def posed(frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    turns = 0.3 * torch.randn(frames, 22, 3, generator=generator)
    return quat_from_rotvec(turns), torch.randn(frames, 3, generator=generator)


def test_match_is_the_nearest_vertex_that_the_camera_can_see(skin):
    pose, root = posed()
    state, normals = skin.pose(pose, root, torch.full((5,), 0.5))
    vertices = skin_of(state)
    generator = torch.Generator().manual_seed(2)
    points = vertices[:, torch.randint(120, (60,), generator=generator)] + 0.03 * torch.randn(
        3, 60, 3, generator=generator
    )
    eyes_at = root[:, None] + torch.tensor([[3.0, 0.0, 0.5], [0.0, 3.0, 0.5]])
    camera = torch.arange(60) % 2
    origin = eyes_at[:, camera]
    found = match(vertices, normals, points, eyes_of(origin))
    for frame in range(3):
        view = torch.nn.functional.normalize(eyes_at[frame][:, None] - vertices[frame], dim=-1)
        cosine = (view * normals[frame]).sum(-1)
        distance = torch.cdist(points[frame], vertices[frame]) ** 2 + 0.25 * (cosine < -0.1)[camera]
        best = distance.gather(1, found.vertex[frame][:, None])[:, 0]
        torch.testing.assert_close(best, distance.amin(dim=1), atol=1e-5, rtol=0)
        best = distance.gather(0, found.point[frame][None])[0]
        torch.testing.assert_close(best, distance.amin(dim=0), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.facing[frame], (cosine > 0.3).any(dim=0))


def test_eyes_tell_the_cameras_of_a_frame_apart():
    a, b = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 2.0, 1.0])
    origin = torch.stack([torch.stack([a, b, a, b]), torch.stack([b, b, b, b])])
    eyes = eyes_of(origin)
    assert eyes.position.shape == (2, 2, 3)
    torch.testing.assert_close(gather(eyes.position, eyes.camera), origin)


def test_one_camera_of_all_frames_is_one_eye():
    eyes = eyes_of(torch.ones(4, 5, 3))
    assert eyes.position.shape == (4, 1, 3)
    assert not eyes.camera.any()


def test_shape_rows_are_the_derivatives_along_the_normals(skin):
    pose, root = posed()
    shape = torch.tensor([0.4, 0.6, 0.3, 0.5, 0.5])
    state, normals = skin.pose(pose, root, shape)
    rows = skin.shape_rows(state, normals, skin.rest_by_shape(shape))
    for k in range(5):
        change = 0.02 * torch.eye(5)[k]
        ahead, _ = skin.pose(pose, root, shape + change)
        behind, _ = skin.pose(pose, root, shape - change)
        expected = ((skin_of(ahead) - skin_of(behind)) * normals).sum(-1) / 0.04
        torch.testing.assert_close(rows[..., k], expected, atol=2e-4, rtol=0)


def test_normals_of_a_tetrahedron_point_outward():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    assert ((vertices - vertices.mean(axis=0)) * normals).sum(axis=1).min() > 0
