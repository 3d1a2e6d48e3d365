"""The metrics: every number by hand on tiny arrays, and invariance where a metric claims it."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportArgumentType=false

from typing import Any

import numpy as np
import open3d as o3d
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix, se3_apply, se3_inverse
from bodydouble.motion import HumanMotion
from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES
from perception.camera_metrics import FoundCameras, ate, similarity, sync_error_ms, true_poses, world_alignment
from perception.metrics import (
    EVALUATED_JOINTS,
    chunk_error,
    contact_f1,
    evaluate,
    fscore,
    human_figures,
    rte_percent,
    sample_surface,
    scene_figures,
    seen_points,
)
from perception.synthetic.room import box, room

SEEDS = st.integers(0, 2**32 - 1)


def rigid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return quat_to_matrix(quat_from_rotvec(rng.normal(size=3))), rng.normal(size=3)


def joints(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Joints (T, 4, 3) that walk about."""
    return rng.normal(size=(1, 4, 3)) + np.cumsum(0.02 * rng.normal(size=(frames, 1, 3)), axis=0)


@given(SEEDS, st.floats(0.2, 5.0))
def test_similarity_is_recovered(seed, scale):
    rng = np.random.default_rng(seed)
    rotation, shift = rigid(rng)
    source = rng.normal(size=(12, 3))
    found = similarity(source, scale * source @ rotation.T + shift)
    assert found[0] == pytest.approx(scale)
    np.testing.assert_allclose(found[1], rotation, atol=1e-9)
    np.testing.assert_allclose(found[2], shift, atol=1e-9 * (1 + scale))


@given(SEEDS)
def test_a_mirror_image_is_not_turned_into_its_original(seed):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(12, 3))
    scale, rotation, _ = similarity(source, source * (-1, 1, 1))
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert scale < 1.0


def test_drift_after_the_aligned_frames_is_counted():
    """Frames 0 and 1 agree, 2 and 3 are 0.3 and 0.6 m off: (0 + 0 + 0.3 + 0.6) / 4."""
    truth = joints(np.random.default_rng(0), 4)
    found = truth + np.array([0, 0, 0.3, 0.6])[:, None, None] * (1, 0, 0)
    assert chunk_error(found, truth, 100, 2) == pytest.approx(0.225)
    assert 0 < chunk_error(found, truth, 100, None) < 0.225


def test_each_chunk_is_aligned_anew():
    """Frames 0 to 99 agree; the second chunk is moved as a whole but for its last two frames, 0.5 m and 1 m off."""
    truth = joints(np.random.default_rng(1), 110)
    found = truth.copy()
    found[100:] += (3.0, -2.0, 1.0)
    found[108] += (0.5, 0, 0)
    found[109] += (0, 0, 1.0)
    assert chunk_error(found, truth, 100, 2) == pytest.approx(1.5 / 110)
    assert chunk_error(found, truth, 110, 2) > 0.3


def test_a_last_chunk_of_one_frame_is_left_out_and_one_of_two_counts():
    truth = joints(np.random.default_rng(2), 102)
    found = truth.copy()
    found[100:] += (np.arange(2)[:, None, None] + 1) * (1.0, 0, 0)
    assert chunk_error(found[:101], truth[:101], 100, 2) == pytest.approx(0, abs=1e-9)
    assert chunk_error(found, truth, 100, 2) > 0.005


@given(SEEDS, st.sampled_from([2, None]))
def test_chunk_error_does_not_see_rigid_motion_and_scale_of_the_estimate(seed, align):
    rng = np.random.default_rng(seed)
    rotation, shift = rigid(rng)
    truth = joints(rng, 30)
    found = truth + 0.05 * rng.normal(size=truth.shape)
    moved = rng.uniform(0.5, 2.0) * found @ rotation.T + shift
    assert chunk_error(moved, truth, 10, align) == pytest.approx(chunk_error(found, truth, 10, align))


@given(SEEDS, st.sampled_from([2, None]))
def test_chunk_error_keeps_when_both_move_and_scales_with_the_unit(seed, align):
    rng = np.random.default_rng(seed)
    rotation, shift = rigid(rng)
    truth = joints(rng, 30)
    found = truth + 0.05 * rng.normal(size=truth.shape)
    error = chunk_error(found, truth, 10, align)
    assert chunk_error(found @ rotation.T + shift, truth @ rotation.T + shift, 10, align) == pytest.approx(error)
    assert chunk_error(1000 * found, 1000 * truth, 10, align) == pytest.approx(1000 * error)


def test_fscore_by_hand():
    """Three of four found points are near the truth, one of two true points is found: 0.75, 0.5, 0.6."""
    truth = np.array([[0.0, 0, 0], [5, 0, 0]])
    found = np.array([[0.05, 0, 0], [0, 0.03, 0], [0, 0, -0.01], [1, 0, 0]])
    score, precision, recall = fscore(found, truth, 0.05)
    assert (score, precision, recall) == pytest.approx((0.6, 0.75, 0.5))
    assert fscore(found + 100, truth, 0.05) == (0.0, 0.0, 0.0)
    assert fscore(truth, truth, 0.05) == (1.0, 1.0, 1.0)


@given(SEEDS)
def test_fscore_moves_with_both_sets_and_swaps(seed):
    rng = np.random.default_rng(seed)
    rotation, shift = rigid(rng)
    found, truth = rng.uniform(size=(40, 3)), rng.uniform(size=(30, 3))
    score, precision, recall = fscore(found, truth, 0.2)
    assert fscore(found @ rotation.T + shift, truth @ rotation.T + shift, 0.2) == pytest.approx(
        (score, precision, recall)
    )
    assert fscore(truth, found, 0.2) == pytest.approx((score, recall, precision))


def test_samples_lie_on_the_mesh_evenly():
    """Two triangles in z = 0, of 0.5 and 1.5 m^2."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-3.0, 0, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    points = sample_surface(vertices, triangles, 20_000, seed=3)
    assert points.shape == (20_000, 3) and np.all(points[:, 2] == 0)
    right = points[:, 0] > 0
    assert right.mean() == pytest.approx(0.25, abs=0.015)
    assert np.all(points[right].sum(axis=1) <= 1 + 1e-12) and np.all(points[:, 1] >= 0)
    np.testing.assert_allclose(points[right].mean(axis=0), (1 / 3, 1 / 3, 0), atol=0.015)
    np.testing.assert_array_equal(points, sample_surface(vertices, triangles, 20_000, seed=3))
    assert not np.array_equal(points, sample_surface(vertices, triangles, 20_000, seed=4))


K = np.array([[100.0, 0, 49.5], [0, 100.0, 49.5], [0, 0, 1]])


def square(half: float, z: float) -> tuple[np.ndarray, np.ndarray]:
    corner = half * np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) + (0, 0, z)
    return corner, np.array([[0, 1, 2], [0, 2, 3]])


def test_a_point_is_seen_in_view_near_and_with_nothing_before_it():
    """A small square at 2 m hides the middle of a large one at 3 m: there 0.3 m beside the axis."""
    (a, f), (b, g) = square(0.2, 2.0), square(2.0, 3.0)
    vertices, triangles = np.concatenate([a, b]), np.concatenate([f, g + 4])
    points = np.array(
        [[0.1, 0.1, 2], [0.25, 0.1, 3], [0.35, 0.1, 3], [1.45, 0, 3], [1.6, 0, 3], [0, -1.45, 3], [0, -1.6, 3]]
    )
    one = np.eye(4)[None]
    seen = seen_points(points, vertices, triangles, one, K, (100, 100), 5.0)
    assert seen.tolist() == [True, False, True, True, False, True, False]
    near = seen_points(points, vertices, triangles, one, K, (100, 100), 2.5)
    assert near.tolist() == [True, False, False, False, False, False, False]
    back = make_se3(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))[None]
    assert not seen_points(points, vertices, triangles, back, K, (100, 100), 5.0).any()
    aside = make_se3(np.eye(3), np.array([1.0, 0, 0]))[None]
    both = seen_points(points, vertices, triangles, np.concatenate([one, aside]), K, (100, 100), 5.0)
    assert both.tolist() == [True, True, True, True, True, True, False]


def person(times_ns: np.ndarray, joint_pos: np.ndarray, contact: np.ndarray | None = None) -> HumanMotion:
    frames = len(times_ns)
    upright = np.array([1.0, 0, 0, 0])
    return HumanMotion(
        times_ns=times_ns,
        joint_names=JOINT_NAMES,
        joint_pos=joint_pos,
        joint_quat=np.tile(upright, (frames, len(JOINT_NAMES), 1)),
        contact_names=CONTACT_NAMES,
        contact=np.zeros((frames, len(CONTACT_NAMES))) if contact is None else contact,
        contact_pos=np.zeros((frames, len(CONTACT_NAMES), 3)),
        body_model="anny",
        shape_names=("height",),
        shape=np.zeros(1),
        pose=np.tile(upright, (frames, 22, 1)),
        root_pos=joint_pos[:, 0],
    )


def truth_of(motion: HumanMotion) -> dict[str, Any]:
    fields = ("times_ns", "joint_names", "joint_pos", "contact_names", "contact")
    return {f"human_{name}": np.asarray(getattr(motion, name)) for name in fields}


def clip(frames: int = 40, fps: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """Times and joints of a person whose every joint moves along a cubic: x = t^3 m."""
    t = np.arange(frames) / fps
    pose = np.random.default_rng(0).normal(size=(1, len(JOINT_NAMES), 3))
    return np.round(t * 1e9).astype(np.int64), pose + (t**3)[:, None, None] * (1, 0, 0)


def test_human_figures_of_a_shifted_person():
    """Shifted by (3, 4, 0) mm everywhere: 5 mm in the world, nothing after alignment; x = t^3 has a jerk of 6."""
    times, pos = clip()
    figures = human_figures(person(times, pos + np.array([0.003, 0.004, 0])), truth_of(person(times, pos)))
    assert figures["root_error_mm"] == pytest.approx(5.0)
    assert figures["mpjpe_world_mm"] == pytest.approx(5.0)
    assert figures["wmpjpe100_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["wampjpe100_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["jitter_m_s3"] == pytest.approx(6.0)
    assert "foot_slip_cm_s" not in figures


def test_only_the_evaluated_joints_count_and_the_root_is_the_pelvis():
    times, pos = clip()
    off = pos.copy()
    off[:, [JOINT_NAMES.index(name) for name in JOINT_NAMES if name not in EVALUATED_JOINTS]] += 1.0
    off[:, JOINT_NAMES.index("head")] += (0, 0, 0.16)
    figures = human_figures(person(times, off), truth_of(person(times, pos)))
    assert figures["mpjpe_world_mm"] == pytest.approx(160 / len(EVALUATED_JOINTS))
    assert figures["root_error_mm"] == pytest.approx(0, abs=1e-9)


def test_truth_is_interpolated_and_frames_outside_it_are_left_out():
    """Truth at 10 Hz moves 0.1 m a frame; the estimate sits on it at 20 Hz and reaches half a second too far."""
    times = np.arange(20) * 100_000_000
    pos = np.random.default_rng(1).normal(size=(1, len(JOINT_NAMES), 3)) + np.arange(20)[:, None, None] * (0.1, 0, 0)
    late = np.arange(-10, 50) * 50_000_000 + 10**10
    shifted = {**truth_of(person(times, pos)), "human_times_ns": times + 10**10}
    between = pos[:1] + ((late - 10**10) * 1e-9)[:, None, None] * (1.0, 0, 0)
    inside = (late >= 10**10) & (late <= 10**10 + times[-1])
    assert not inside.all()
    between[~inside] += 7.0
    figures = human_figures(person(late, between), shifted)
    assert figures["mpjpe_world_mm"] == pytest.approx(0, abs=1e-6)


def test_foot_slip_is_the_horizontal_speed_of_planted_ankles():
    """The left foot stands throughout and slides 2 cm a frame at 10 Hz, the right one is in the air."""
    times, _ = clip()
    pos = np.repeat(np.random.default_rng(2).normal(size=(1, len(JOINT_NAMES), 3)), len(times), axis=0)
    true = pos.copy()
    pos[:, JOINT_NAMES.index("left_ankle")] += np.arange(len(times))[:, None] * (0.012, 0.016, 0.5)
    pos[:, JOINT_NAMES.index("right_ankle")] += np.arange(len(times))[:, None] * (1.0, 0, 0)
    contact = np.zeros((len(times), len(CONTACT_NAMES)))
    contact[:, 0] = 1.0
    contact[:, 2:] = 1.0
    figures = human_figures(person(times, pos), truth_of(person(times, true, contact)))
    assert figures["foot_slip_cm_s"] == pytest.approx(20.0)


@pytest.fixture(scope="module")
def cube() -> tuple[np.ndarray, np.ndarray]:
    mesh = box((0, 0, 0.5), (1, 1, 1), (200, 50, 50))
    return mesh.vertices, mesh.triangles


def write_reconstruction(folder, vertices, triangles):
    folder.mkdir()
    mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles))
    assert o3d.io.write_triangle_mesh(str(folder / "scene.ply"), mesh)
    write_cameras(folder, {"cam": looking_down()})
    return folder


def write_cameras(folder, poses, times=None, offsets=None):
    """Write cameras.npz of cameras by name."""
    arrays: dict[str, Any] = {"names": np.array(list(poses))}
    for name, pose in poses.items():
        arrays |= {
            f"{name}_K": K,
            f"{name}_size": np.array([100, 100]),
            f"{name}_times_ns": np.arange(len(pose)) * 100_000_000 if times is None else times[name],
            f"{name}_T_world_camera": pose,
            f"{name}_clock_offset_ns": np.array(0 if offsets is None else offsets[name]),
        }
    np.savez(folder / "cameras.npz", **arrays)


def looking_down() -> np.ndarray:
    """A camera 2 m over the cube's top, which it sees whole, and nothing else of it."""
    return make_se3(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 3.0]))[None]


def cube_truth(cube) -> dict[str, Any]:
    camera = {"cam_T_world_camera": looking_down(), "cam_times_ns": np.zeros(1, np.int64)}
    return {"scene_vertices": cube[0], "scene_triangles": cube[1], **camera}


def test_scene_figures_judge_found_against_all_and_recall_against_what_was_seen(cube, tmp_path):
    """Only the cube's top is found and only it was seen: complete and right, though five sides are missing."""
    vertices, triangles = cube
    top = triangles[np.all(vertices[triangles][..., 2] == 1.0, axis=1)]
    assert len(top) == 2
    figures = scene_figures(write_reconstruction(tmp_path / "r", vertices, top), cube_truth(cube))
    assert figures["scene_precision_5cm"] == 1.0
    assert figures["scene_recall_5cm"] == pytest.approx(1.0, abs=1e-3)
    assert figures["scene_fscore_5cm"] == pytest.approx(1.0, abs=1e-3)


def test_scene_figures_of_half_a_surface(cube, tmp_path):
    """One of the two triangles of the top: all right, half of it found but for a seam of 5 cm along the diagonal."""
    vertices, triangles = cube
    top = triangles[np.all(vertices[triangles][..., 2] == 1.0, axis=1)]
    figures = scene_figures(write_reconstruction(tmp_path / "r", vertices, top[:1]), cube_truth(cube))
    recall = 0.5 + 0.05 * np.sqrt(2) - 0.05**2
    assert figures["scene_precision_5cm"] == 1.0
    assert figures["scene_recall_5cm"] == pytest.approx(recall, abs=0.01)
    assert figures["scene_fscore_5cm"] == pytest.approx(2 * recall / (1 + recall), abs=0.01)


def test_scene_figures_of_a_displaced_surface(cube, tmp_path):
    """The top 3 cm too high is 30 mm off and within the threshold; 8 cm too high it is wrong altogether."""
    vertices, triangles = cube
    top = triangles[np.all(vertices[triangles][..., 2] == 1.0, axis=1)]
    figures = scene_figures(
        write_reconstruction(tmp_path / "a", vertices + np.array([0, 0, 0.03]), top), cube_truth(cube)
    )
    assert figures["scene_accuracy_median_mm"] == pytest.approx(30.0, abs=0.5)
    assert figures["scene_precision_5cm"] == 1.0
    figures = scene_figures(
        write_reconstruction(tmp_path / "b", vertices + np.array([0, 0, 0.08]), top), cube_truth(cube)
    )
    assert figures["scene_precision_5cm"] == figures["scene_recall_5cm"] == figures["scene_fscore_5cm"] == 0.0


def test_the_true_scene_is_without_error(tmp_path):
    """A whole room, its triangles in another order, so that other points are sampled on it."""
    mesh = room(np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(len(mesh.triangles))
    folder = write_reconstruction(tmp_path / "r", mesh.vertices, mesh.triangles[order])
    figures = scene_figures(folder, cube_truth((mesh.vertices, mesh.triangles)))
    assert figures["scene_accuracy_median_mm"] < 0.1


def test_evaluate_reads_both_folders(cube, tmp_path):
    folder = write_reconstruction(tmp_path / "r", *cube)
    times, pos = clip()
    person(times, pos + np.array([0.003, 0.004, 0])).save(folder / "human.npz")
    np.savez(tmp_path / "truth.npz", **cube_truth(cube), **truth_of(person(times, pos)))
    figures = evaluate(folder, tmp_path / "truth.npz")
    assert figures["root_error_mm"] == pytest.approx(5.0)
    assert figures["scene_recall_5cm"] == pytest.approx(1.0, abs=1e-3)
    (folder / "human.npz").unlink()
    assert "root_error_mm" not in evaluate(folder, tmp_path / "truth.npz")


def test_what_is_no_truth_is_named(cube, tmp_path):
    folder = write_reconstruction(tmp_path / "r", *cube)
    with pytest.raises(InputError, match=r"none\.npz: cannot be read as truth"):
        evaluate(folder, tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no truth")
    with pytest.raises(InputError, match=r"text\.npz: cannot be read as truth"):
        evaluate(folder, tmp_path / "text.npz")


def test_a_truncated_or_foreign_truth_is_named(cube, tmp_path):
    folder = write_reconstruction(tmp_path / "r", *cube)
    np.savez(tmp_path / "truth.npz", **cube_truth(cube))
    content = (tmp_path / "truth.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    for name in ("cut.npz", "other.npz"):
        with pytest.raises(InputError, match=name):
            evaluate(folder, tmp_path / name)


def test_a_reconstruction_that_lacks_a_file_is_named(cube, tmp_path):
    np.savez(tmp_path / "truth.npz", **cube_truth(cube))
    folder = write_reconstruction(tmp_path / "r", *cube)
    (folder / "scene.ply").unlink()
    with pytest.raises(InputError, match=r"scene\.ply"):
        evaluate(folder, tmp_path / "truth.npz")
    folder = write_reconstruction(tmp_path / "s", *cube)
    (folder / "cameras.npz").unlink()
    with pytest.raises(InputError, match=r"cameras\.npz"):
        evaluate(folder, tmp_path / "truth.npz")


def test_ate_of_a_moved_path_with_one_wrong_place():
    """Moved rigidly: nothing. Corners of a square pushed in and out in turn by 0.1 m: 0.1 m, no rigid motion helps."""
    rotation, shift = rigid(np.random.default_rng(5))
    truth = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    assert ate(truth @ rotation.T + shift, truth) == pytest.approx(0, abs=1e-12)
    pushed = truth * np.array([1.1, 0.9, 1.1, 0.9])[:, None]
    assert ate(pushed @ rotation.T + shift, truth) == pytest.approx(0.1)


def test_ate_and_rte_see_a_wrong_scale():
    """A path of 3 m in two steps, from -1.5 to 1.5 m, found twice as long: 1.5, 0 and 1.5 m off."""
    truth = np.array([[-1.5, 0, 0], [0, 0, 0], [1.5, 0, 0]])
    assert ate(2 * truth, truth) == pytest.approx(1.5 * np.sqrt(2 / 3))
    assert rte_percent(2 * truth + 7, truth) == pytest.approx(100 / 3)
    with pytest.raises(InputError, match="does not move"):
        rte_percent(truth, np.zeros((3, 3)))


def test_sync_error_counts_only_differences_between_cameras():
    true = {"a": 0.0, "b": 370e6}
    assert sync_error_ms({"a": 5e9, "b": 5e9 + 362e6}, true) == pytest.approx(8.0)
    with pytest.raises(InputError, match="expected those of"):
        sync_error_ms({"a": 0.0}, true)


def test_contact_f1_by_hand():
    """Part 0: two hits, one missed, one wrong: 2/3. Part 1: one hit: 1. Part 2 never touches. Together 6/8."""
    found = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=bool)
    micro, parts = contact_f1(found, truth)
    assert micro == pytest.approx(0.75)
    np.testing.assert_allclose(parts, [2 / 3, 1.0, np.nan])
    assert np.isnan(contact_f1(found & False, truth & False)[0])


def test_rte_and_long_chunks_are_among_the_figures():
    times, pos = clip()
    figures = human_figures(person(times, pos + 0.5), truth_of(person(times, pos)))
    assert figures["rte_percent"] == pytest.approx(0, abs=1e-6)
    assert figures["wmpjpe500_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["wampjpe500_mm"] == pytest.approx(0, abs=1e-6)


def test_named_contacts_of_a_person():
    """The left foot touches in truth for the first half and is found for all of it: F1 2/3; nothing else touches."""
    times, pos = clip()
    true, found = (np.zeros((len(times), len(CONTACT_NAMES))) for _ in range(2))
    true[: len(times) // 2, 0] = 1.0
    found[:, 0] = 0.9
    found[:, 3] = 0.4
    figures = human_figures(person(times, pos, found), truth_of(person(times, pos, true)))
    assert figures["contact_f1"] == figures["contact_f1_left_foot"] == pytest.approx(2 / 3)
    assert [name for name in figures if name.startswith("contact_f1_")] == ["contact_f1_left_foot"]
    assert figures["person_coverage"] == pytest.approx(1.0, abs=0.03)


def test_frames_without_a_person_are_left_out():
    """The truth says that the person is away in the second half, where the estimate is a metre off."""
    times, pos = clip()
    present = np.arange(len(times)) < 20
    off = pos + np.where(present, 0, 1.0)[:, None, None]
    figures = human_figures(person(times, off), {**truth_of(person(times, pos)), "human_present": present})
    assert figures["mpjpe_world_mm"] == pytest.approx(0, abs=1e-6)


def swaying(frames: int, at: tuple[float, float, float]) -> np.ndarray:
    """Poses (T, 4, 4) of a camera that moves by millimetres and turns slowly."""
    t = np.arange(frames) / 10
    place = np.array(at) + 0.003 * np.stack([np.sin(t), np.cos(2 * t), np.sin(3 * t)], axis=1)
    turn = quat_to_matrix(quat_from_rotvec(np.stack([0.1 * np.sin(t), 0.2 * t, 0.05 * np.cos(t)], axis=1)))
    return make_se3(turn, place)


@given(SEEDS)
def test_the_worlds_relation_is_found_from_a_short_path(seed):
    rotation, shift = rigid(np.random.default_rng(seed))
    truth = swaying(12, (1.0, 2.0, 1.5))
    T = make_se3(rotation, shift)
    np.testing.assert_allclose(world_alignment(se3_inverse(T) @ truth, truth), T, atol=1e-9)


def test_found_frames_are_known_by_their_recorded_stamps():
    """The second camera's clock is truly 0.35 s ahead, 0.30 s was found: its frames are still the ones recorded."""
    times = np.arange(10) * 100_000_000
    true_b = swaying(10, (0, 3, 1))
    true = {
        "a_times_ns": times, "a_T_world_camera": swaying(10, (2, 0, 1)),
        "b_times_ns": times, "b_T_world_camera": true_b, "b_clock_offset_ns": np.array(350_000_000),
    }  # fmt: skip
    cameras = FoundCameras(
        ("b",), {}, {}, {"b": times[3:] + 350_000_000 - 300_000_000}, {"b": true_b[3:]}, {"b": 300_000_000}
    )
    np.testing.assert_array_equal(true_poses(cameras, true)["b"], true_b[3:])


def test_a_world_of_its_own_is_aligned_by_the_cameras_and_clocks_are_compared(cube, tmp_path):
    """Everything moved rigidly, stamps 2 s ahead, the second clock found 4 ms wrong: only that error is left."""
    vertices, triangles = cube
    times, pos = clip()
    T = make_se3(*rigid(np.random.default_rng(3)))
    inverse = se3_inverse(T)
    a, b = looking_down(), swaying(1, (2.0, 0.3, 1.0))
    true = {
        "scene_vertices": vertices, "scene_triangles": triangles, "poses_recorded": np.bool_(False),
        "cam_times_ns": np.zeros(1, np.int64), "cam_T_world_camera": a, "cam_clock_offset_ns": np.array(2 * 10**9),
        "two_times_ns": np.zeros(1, np.int64), "two_T_world_camera": b, "two_clock_offset_ns": np.array(2_137_000_000),
    }  # fmt: skip
    folder = write_reconstruction(tmp_path / "r", se3_apply(inverse, vertices), triangles)
    write_cameras(
        folder,
        {"cam": inverse @ a, "two": inverse @ b},
        {"cam": np.array([2 * 10**9]), "two": np.array([2 * 10**9 - 4_000_000])},
        {"cam": 0, "two": 141_000_000},
    )
    person(times + 2 * 10**9, se3_apply(inverse, pos)).save(folder / "human.npz")
    np.savez(tmp_path / "truth.npz", **true, **truth_of(person(times, pos)))
    figures = evaluate(folder, tmp_path / "truth.npz")
    assert figures["sync_error_ms"] == pytest.approx(4.0)
    assert figures["ate_m"] == pytest.approx(0, abs=1e-9)
    assert figures["root_error_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["scene_accuracy_median_mm"] < 0.1
    known = {**true, "poses_recorded": np.bool_(True)}
    np.savez(tmp_path / "known.npz", **known, **truth_of(person(times, pos)))
    assert evaluate(folder, tmp_path / "known.npz")["root_error_mm"] > 100
