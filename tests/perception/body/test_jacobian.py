from __future__ import annotations

import torch

from bodydouble.frames import quat_from_rotvec
from perception.body.anny_body import AnnyBody
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, stepped, vertex_influence
from perception.clip_fit import skin_of


def test_rows_are_the_derivatives_of_joints_and_skin():
    whole = AnnyBody.load(dtype=torch.float64)
    body = whole.subset(whole.sample_vertices(60))
    generator = torch.Generator().manual_seed(0)
    pose = quat_from_rotvec(0.4 * torch.randn(2, 22, 3, generator=generator).double())
    root = torch.randn(2, 3, generator=generator).double()
    rest = body.rest(torch.full((5,), 0.5, dtype=torch.float64))
    state = body.forward(pose, root, rest=rest)
    motions = Motions(state)
    directions = torch.nn.functional.normalize(torch.randn(2, 60, 3, generator=generator).double(), dim=-1)
    influence = vertex_influence(body.weights.float()).double()
    skin = motions.rows(skin_of(state), directions, influence)
    joints = motions.point_rows(state.joint_pos, JOINT_INFLUENCE.double())
    rigid = body.weights.amax(dim=1) > 0.9999
    assert rigid.sum() > 10
    for k in range(SIZE):
        step = torch.zeros(2, SIZE, dtype=torch.float64)
        step[:, k] = 1e-5
        ahead = body.forward(*stepped(pose, root, step), rest=rest)
        behind = body.forward(*stepped(pose, root, -step), rest=rest)
        found = ((skin_of(ahead) - skin_of(behind)) * directions).sum(-1) / 2e-5
        torch.testing.assert_close(skin[:, rigid, k], found[:, rigid], atol=1e-5, rtol=1e-4)
        # Skin between two bones turns about a place between the two that each would give it.
        torch.testing.assert_close(skin[..., k], found, atol=0.05, rtol=0)
        moved = (ahead.joint_pos - behind.joint_pos) / 2e-5
        torch.testing.assert_close(joints[..., k], moved, atol=1e-6, rtol=1e-4)
