import numpy as np
import pytest
import torch

from perception.body.limits import REST_POSTURE
from perception.joints.canonical import MIN_POINTS, PIXEL_M, SIZE
from perception.joints.network import NETWORK_JOINTS
from perception.joints.synthetic_depth import DepthConfig, DepthSampler

CLEAN = DepthConfig(
    samples=20_000, mixed=0, loosened=0, free_arms=0, free_legs=0, tilted=0, noise=(0, 0), cloth_m=0, hidden=0,
    cropped=0, cluttered=0,
)  # fmt: skip


def sampler(config: DepthConfig, seed: int = 0) -> DepthSampler:
    return DepthSampler(REST_POSTURE[None], config, torch.device("cpu"), seed)


@pytest.fixture(scope="module")
def clean():
    return sampler(CLEAN).draw(16)


def test_the_true_joints_lie_in_the_body_that_is_seen(clean):
    """In the image the trunk's joints are covered by the person, behind the skin that the camera sees."""
    for name in ("pelvis", "spine2", "neck"):
        joint = clean.joints[:, NETWORK_JOINTS.index(name)]
        column = torch.floor(joint[:, 0] / PIXEL_M).long() + SIZE // 2
        row = SIZE // 2 - 1 - torch.floor(joint[:, 1] / PIXEL_M).long()
        # Few points leave gaps: the nearest in seven by seven pixels.
        there, depth = clean.views.images.unbind(1)
        nearest = -torch.nn.functional.max_pool2d(torch.where(there > 0, -depth, -9.0), 7, stride=1, padding=3)
        surface = nearest[torch.arange(16), row, column]
        covered = surface < 9.0
        assert covered.float().mean() > 0.9
        behind = (joint[:, 2] - surface)[covered]
        assert (behind > 0.02).all() and (behind < 0.45).all()


def test_left_is_right_when_the_person_faces_the_camera(clean):
    """A person who faces the camera has the left shoulder on the image's right; the head is up, the feet are down."""
    joints = clean.joints
    index = {name: i for i, name in enumerate(NETWORK_JOINTS)}
    across = joints[:, index["left_shoulder"], 0] - joints[:, index["right_shoulder"], 0]
    toes = joints[:, index["left_ball"]] - joints[:, index["left_ankle"]]
    frontal = toes[:, 2].abs() > 0.1
    assert frontal.any()
    assert (torch.sign(across[frontal]) == -torch.sign(toes[frontal, 2])).all()
    assert (joints[:, index["head"], 1] > joints[:, index["pelvis"], 1]).all()
    assert (joints[:, index["left_ankle"], 1] < joints[:, index["pelvis"], 1]).all()


def test_the_same_seed_draws_the_same_views():
    first, second = sampler(DepthConfig(samples=4000), 3).draw(4), sampler(DepthConfig(samples=4000), 3).draw(4)
    assert torch.equal(first.views.images, second.views.images)
    assert torch.equal(first.joints, second.joints)
    other = sampler(DepthConfig(samples=4000), 4).draw(4)
    assert not torch.equal(first.joints, other.joints)


def test_what_stands_before_the_person_hides_it():
    """The same bodies with everything hidden or cropped show fewer points."""
    shown = sampler(CLEAN, 1).draw(24).views.images[:, 0].sum()
    hiding = DepthConfig(**{**vars(CLEAN), "hidden": 1.0, "cropped": 1.0})
    assert sampler(hiding, 1).draw(24).views.images[:, 0].sum() < 0.85 * shown


def test_views_with_too_few_points_are_not_usable():
    few = DepthConfig(**{**vars(CLEAN), "samples": 3 * MIN_POINTS})
    usable = sampler(few).draw(32).usable
    assert not usable.all()


def test_limbs_stay_within_the_limits():
    """Free arms are drawn within the joint limits: posture by posture different, unit quaternions."""
    free = DepthConfig(**{**vars(CLEAN), "free_arms": 1.0})
    pose = sampler(free).postures(50)
    assert torch.allclose(pose.norm(dim=-1), torch.ones(50, 22), atol=1e-4)
    assert np.unique(pose[:, 17].numpy().round(4), axis=0).shape[0] > 40
