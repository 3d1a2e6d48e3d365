import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec, quat_mul
from perception.body.anny_body import JOINT_NAMES
from perception.body.anny_data import BONE_NAMES
from perception.body.limits import REST_POSTURE
from perception.initial_pose import initial_pose
from perception.joints.estimate import JointEstimates
from perception.segment import PersonPoints
from perception.skin import whole_body

EYE = np.array([-3.0, 0.4, 1.4])
SHAPE = torch.tensor([0.5, 0.5, 0.5, 0.35, 0.5])


def squat_with_raised_arm(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (T, 22, 4) and roots (T, 3) of a person who turns, goes down and raises an arm."""
    turns = np.zeros((frames, len(BONE_NAMES), 3))
    share = np.linspace(0, 1, frames)
    for side in ("left", "right"):
        turns[:, BONE_NAMES.index(f"{side}_hip"), 1] = -1.2 * share
        turns[:, BONE_NAMES.index(f"{side}_knee"), 1] = 1.4 * share
    turns[:, BONE_NAMES.index("left_shoulder"), 1] = -1.5 * share
    turns[:, 0, 2] = np.pi + 0.6 * share
    pose = quat_mul(torch.as_tensor(REST_POSTURE), quat_from_rotvec(torch.as_tensor(turns)))
    root = torch.zeros(frames, 3)
    root[:, 2] = torch.as_tensor(0.9 - 0.3 * share)
    return pose.float(), root


def person_of(pose: torch.Tensor, root: torch.Tensor) -> tuple[PersonPoints, np.ndarray]:
    """What one camera sees of the body, 700 points a frame, and the true joints (T, J, 3)."""
    body = whole_body()
    state = body.forward(pose, root, SHAPE)
    assert state.vertices is not None and body.faces is not None
    rng = np.random.default_rng(0)
    points = np.zeros((len(pose), 700, 3))
    for frame, vertices in enumerate(state.vertices.numpy()):
        corner = vertices[body.faces]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        area = np.where(((corner.mean(axis=1) - EYE) * normal).sum(axis=1) < 0, np.linalg.norm(normal, axis=1), 0.0)
        points[frame] = corner[rng.choice(len(corner), 700, p=area / area.sum())].mean(axis=1)
    size = len(pose)
    times = (np.arange(size) * 1e9 / 6).astype(np.int64)
    person = PersonPoints(times, points, np.tile(EYE, (size, 700, 1)), np.full(size, 5000), np.ones(size, int))
    return person, state.joint_pos.numpy()


def joints_of(pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> np.ndarray:
    return whole_body().forward(pose, root, shape, with_vertices=False).joint_pos.numpy()


def test_one_cameras_points_give_the_body():
    person, truth = person_of(*squat_with_raised_arm(5))
    found = initial_pose(person, np.arange(5))
    error = np.linalg.norm(joints_of(found.pose, found.root, found.shape) - truth, axis=-1)
    assert np.median(error) < 0.03
    assert np.percentile(error, 90) < 0.08
    assert (found.confidence > 0.7).all()
    tall = joints_of(found.pose[:1], found.root[:1], torch.tensor([0.5, 0.5, 0.5, 0.65, 0.5]))
    assert np.ptp(truth[0, :, 2]) < np.ptp(tall[0, :, 2]) - 0.05


def test_a_frame_with_left_and_right_exchanged_is_put_right(monkeypatch: pytest.MonkeyPatch):
    """The network says so in one frame of six, and knows nothing in another: the body turns round in none."""
    pose, root = squat_with_raised_arm(6)
    truth = joints_of(pose, root, SHAPE)
    joints, scales = truth.copy(), np.full(truth.shape[:2], 0.02)
    other = [
        JOINT_NAMES.index(name.replace("left", "x").replace("right", "left").replace("x", "right"))
        for name in JOINT_NAMES
    ]
    joints[2] = joints[2, other]
    joints[4], scales[4] = np.nan, np.inf
    monkeypatch.setattr("perception.initial_pose.estimate_joints", lambda person, keys: JointEstimates(joints, scales))
    person, _ = person_of(pose[:1], root[:1])
    found = initial_pose(person, np.arange(6))
    error = np.linalg.norm(joints_of(found.pose, found.root, found.shape) - truth, axis=-1)
    assert np.median(error[2]) < 0.03
    assert np.median(error[4]) < 0.08
    assert found.confidence[4] == 0


def test_nothing_to_see_is_said():
    person, _ = person_of(*squat_with_raised_arm(2))
    empty = PersonPoints(person.times_ns, person.points, person.origin, np.zeros(2, int), person.views)
    with pytest.raises(InputError, match="no frame shows enough of the person"):
        initial_pose(empty, np.arange(2))
