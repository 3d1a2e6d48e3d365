import os
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import InputError
from perception.body.anny_body import JOINT_NAMES
from perception.joints.estimate import JointEstimates
from perception.joints.prior import JointPrior
from perception.segmented_person import (
    SegmentedConfig,
    SegmentedDepth,
    fit_segmented,
    level_camera,
    lowest_feet,
    segmented_points,
    without_flying,
)
from perception.utd_mhad import BODY_JOINTS, KINECT_JOINTS, clip_names, load_clip

K = np.array([[285.0, 0.0, 160.0], [0.0, 285.0, 120.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def mhad() -> Path:
    folder = Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data")) / "person_depth_utd_mhad"
    if not folder.is_dir():
        pytest.skip(f"needs real depth of persons: {folder} is missing (set BODYDOUBLE_DATA)")
    return folder


def column_of_depth(frames: int) -> SegmentedDepth:
    """A post 0.3 m wide, 3 m away, from 0.9 m above a level camera to 1.1 m below it; the second image is empty."""
    depth = np.zeros((frames, 240, 320), np.uint16)
    depth[:, 35:225, 146:175] = 3000
    depth[1] = 0
    return SegmentedDepth((np.arange(frames) * 33_333_333).astype(np.int64), depth, K)


def test_points_lie_in_a_world_with_z_up_and_the_floor_under_the_feet():
    config = SegmentedConfig()
    depth = column_of_depth(3)
    person = segmented_points(depth, config)
    assert person.count[1] == 0 and person.views.tolist() == [1, 0, 1]
    shown = person.points[[0, 2]]
    assert np.allclose(shown[..., 0], 3.0)
    assert shown[..., 2].max() == pytest.approx((120 - 35) * 3 / 285, abs=0.03)
    assert lowest_feet(person, config) == pytest.approx((120 - 224) * 3 / 285, abs=0.04)
    high = SegmentedDepth(depth.times_ns, depth.depth_mm, K, level_camera(1.1))
    assert lowest_feet(segmented_points(high, config), config) == pytest.approx(0.0, abs=0.05)


def test_readings_between_two_surfaces_are_left_out():
    depth = np.zeros((20, 30))
    depth[5:15, 5:15], depth[5:15, 16:26] = 2.0, 3.0
    depth[5:15, 15] = 2.5
    kept = without_flying(depth, 0.02, 4)
    assert (kept[:, 15] == 0).all()
    assert (kept[6:14, 6:14] == 2.0).all() and (kept[6:14, 17:25] == 3.0).all()


def test_wrong_images_are_refused():
    depth = column_of_depth(3)
    metres = SegmentedDepth(depth.times_ns, (depth.depth_mm / 1000).astype(np.float32), K)
    with pytest.raises(InputError, match="uint16 millimetres"):
        fit_segmented(metres)
    empty = SegmentedDepth(depth.times_ns, np.zeros_like(depth.depth_mm), K)
    with pytest.raises(InputError, match="no image has 150 points"):
        fit_segmented(empty)


def test_the_prior_pulls_certain_joints_most_and_unknown_ones_not_at_all():
    joints, scales = np.zeros((2, len(JOINT_NAMES), 3)), np.full((2, len(JOINT_NAMES)), 0.01)
    scales[0, 3] = 0.3
    joints[1, 5], scales[1, 5] = np.nan, np.inf
    prior = JointPrior(JointEstimates(joints, scales), 29.0)
    assert prior._weight[0, 3] < 0.05
    assert prior._weight[1, 5] == 0
    assert float(prior._weight[0, 0]) == pytest.approx(1.0)


def test_a_folder_that_is_no_mhad_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="expected the folder of UTD-MHAD"):
        clip_names(tmp_path)
    with pytest.raises(InputError, match="no such file; expected one sequence"):
        load_clip(tmp_path, "a1_s1_t1")


def test_a_real_person_gets_a_body_in_every_image(mhad: Path):
    """Twelve images of somebody who swipes an arm, against the Kinect's own skeleton."""
    clip = load_clip(mhad, "a1_s2_t1")
    cut = SegmentedDepth(clip.depth.times_ns[15:51:3], clip.depth.depth_mm[15:51:3], clip.depth.K)
    fit = fit_segmented(cut)
    assert fit.shown.all()
    assert np.isfinite(fit.body.joint_pos).all()
    assert np.median(fit.body.residual_m) < 0.03
    own = [[JOINT_NAMES.index(name) for name in BODY_JOINTS[kinect]] for kinect in KINECT_JOINTS]
    places = np.stack([fit.body.joint_pos[:, index].mean(axis=1) for index in own], axis=1)
    distance = np.linalg.norm(places - clip.skeleton[15:51:3], axis=-1)
    assert np.median(distance) < 0.08
