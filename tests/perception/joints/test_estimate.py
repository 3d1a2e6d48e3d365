import numpy as np
import pytest
import torch

from perception.body.anny_body import JOINT_NAMES, AnnyBody
from perception.body.limits import REST_POSTURE
from perception.joints.estimate import estimate_joints, estimate_views
from perception.joints.network import JOINT_INDEX, NETWORK_JOINTS
from perception.joints.synthetic_depth import DepthConfig, DepthSampler
from perception.segment import PersonPoints


def seen_from(eye: np.ndarray, yaw: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) of a standing body's skin on the camera's side, and its joints (J, 3)."""
    body = AnnyBody.load()
    pose = torch.as_tensor(REST_POSTURE, dtype=torch.float32)[None].clone()
    pose[0, 0] = torch.tensor([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
    state = body.forward(pose, torch.tensor([[0.0, 0.0, 0.9]]), torch.full((5,), 0.5))
    assert state.vertices is not None and body.faces is not None
    vertices = state.vertices[0].numpy()
    corner = vertices[body.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    facing = np.flatnonzero(((corner.mean(axis=1) - eye) * normal).sum(axis=1) < 0)
    area = np.linalg.norm(normal[facing], axis=1)
    pick = np.random.default_rng(seed).choice(facing, count, p=area / area.sum())
    return corner[pick].mean(axis=1), state.joint_pos[0].numpy()


@pytest.mark.parametrize("yaw", [0.0, 1.2, np.pi])
def test_finds_a_standing_person_and_which_way_they_face(yaw: float):
    """Left and right are told apart from the front, the side and the back, with 700 points."""
    eye = np.array([-3.0, 0.5, 1.5])
    points, joints = seen_from(eye, yaw, 700, 0)
    found, scales = estimate_views(points[None], np.ones((1, 700), bool), eye[None])
    error = np.linalg.norm(found[0] - joints[list(JOINT_INDEX)], axis=1)
    assert np.median(error) < 0.05
    assert error.max() < 0.2
    assert (scales < 0.2).all()


def test_two_cameras_are_fused_and_an_empty_frame_stays_empty():
    eyes = np.array([[-3.0, 0.5, 1.5], [0.3, -3.0, 1.5]])
    (first, joints), (second, _) = (seen_from(eye, 0.4, 350, 1) for eye in eyes)
    points = np.stack([np.concatenate([first, second]), np.zeros((700, 3))])
    origin = np.stack([np.repeat(eyes, 350, axis=0), np.zeros((700, 3))])
    times = np.array([0, 33_000_000])
    person = PersonPoints(times, points, origin, np.array([5000, 0]), np.array([2, 0]))
    found = estimate_joints(person, np.array([0, 1]))
    at = list(JOINT_INDEX)
    error = np.linalg.norm(found.joints[0, at] - joints[at], axis=1)
    assert np.median(error) < 0.04
    assert np.isnan(found.joints[1]).all() and np.isinf(found.scales[1]).all()
    heel = JOINT_NAMES.index("left_heel")
    assert np.isnan(found.joints[0, heel]).all() and np.isinf(found.scales[0, heel])


def test_the_shipped_network_is_as_good_as_its_card_says():
    """Fresh bodies with all the sensor's faults: the median joint error stays below 4 cm."""
    views = DepthSampler(REST_POSTURE[None], DepthConfig(samples=20_000, tilted=0.0), torch.device("cpu"), 11).draw(48)
    from perception.joints.estimate import _session

    joints, _ = _session().run(None, {"images": views.views.images.numpy()})
    error = np.linalg.norm(joints - views.joints.numpy(), axis=-1)[views.usable.numpy()]
    assert np.median(error) < 0.04
    assert joints.shape[1] == len(NETWORK_JOINTS)
