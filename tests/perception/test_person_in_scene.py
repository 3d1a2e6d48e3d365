"""Somebody who stays on one spot: what never moves of them leaves the static scene, furniture beside them stays."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

import dataclasses

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial import cKDTree

from perception.fit import FitConfig, FittedBody
from perception.person_in_scene import (
    StillConfig,
    skin_in_scene_m2,
    skin_over_time,
    told_of,
    without_still_person,
)
from perception.scene_parts import PartsConfig
from perception.segment import SegmentConfig, find_person
from perception.static_scene import SceneConfig, StaticScene, reconstruct_scene
from perception.synthetic.acting import act, whole_body
from perception.synthetic.exposure import body_vertices
from perception.synthetic.generate import SyntheticConfig, generate
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import SEAT_HEIGHT, RoomConfig, layout
from perception.views import load_views

FPS = 8.0
CLIP = SyntheticConfig(
    width=128,
    height=96,
    fps=FPS,
    workers=1,
    motion=MotionConfig(segments=(Segment("stand", 0.3), Segment("reach", 2.4, 1.0, "both"))),
    # A hand's breadth of free floor between the chair and who stands before it.
    room=RoomConfig(chair_xy=(-1.05, 0.2)),
)
SCENE = SceneConfig(voxel_m=0.04, stride_s=0.1)
SEGMENT = SegmentConfig(fps=FPS, stride=1, min_points=40, points_per_frame=200)


def test_who_stays_on_one_spot_is_found_and_the_chair_beside_stays(tmp_path):
    """Arms that move and a trunk that leans are nobody by themselves; with what stands below them they are."""
    generate(CLIP, tmp_path / "recording")
    views = load_views(tmp_path / "recording" / "recording.mcap", SCENE.stride_s)
    scene = reconstruct_scene(views, SCENE)
    search = find_person(views, scene, SEGMENT, SCENE)
    fit = FitConfig(coarse_iterations=2, iterations=0)
    opened, found = without_still_person(
        scene, search, views, 0.0, StillConfig(), PartsConfig(), SEGMENT, SCENE, fit
    )  # fmt: skip
    person = found.person
    assert person is not None and not any("nobody" in line for line in found.warnings)
    # All of the body is there now, and it is the body.
    truth = act(CLIP.motion, CLIP.shape)
    for index in np.flatnonzero(person.count > 0)[::4]:
        body = body_vertices(truth, int(np.clip(person.times_ns[index], 0, truth.times_ns[-1])))
        distance = cKDTree(body).query(person.points[index])[0]
        assert np.median(distance) < 0.04 and np.quantile(distance, 0.9) < 0.08
        assert person.points[index][:, 2].min() < 0.25 and person.points[index][:, 2].max() > 1.5
    low, high = body.min(axis=0) + np.array([0.05, 0.05, 0.1]), body.max(axis=0) - np.array([0.05, 0.05, 0.0])
    inside = [((one.vertices > low) & (one.vertices < high)).all(axis=1).sum() for one in (scene, opened)]
    assert inside[0] > 100 and inside[1] == 0
    x, y = layout(np.random.default_rng(CLIP.seed), CLIP.room)["chair"]
    grid = np.stack(np.meshgrid(np.linspace(-0.15, 0.2, 8), np.linspace(-0.2, 0.2, 8)), axis=-1).reshape(-1, 2)
    seat = np.column_stack([grid + np.array([x, y]), np.full(len(grid), SEAT_HEIGHT)]).astype(np.float32)
    assert (opened.raycaster().compute_distance(o3d.core.Tensor(seat)).numpy() < 0.03).mean() > 0.8


def standing() -> FittedBody:
    """A body that stands for five frames, as if it had been fitted without error."""
    motion = act(MotionConfig(segments=(Segment("stand", 1.0),)))
    frames = slice(0, 5)
    return FittedBody(
        motion.pose[frames], motion.root_pos[frames], motion.shape, motion.joint_pos[frames],
        motion.joint_quat[frames], np.zeros(5),
    )  # fmt: skip


@pytest.mark.parametrize(("turned", "frames", "told"), [(False, 5, True), (False, 1, False), (True, 5, False)])
def test_skin_that_is_left_in_the_scene_is_measured(turned: bool, frames: int, told: bool):
    """The body's own mesh is it, unless the body is elsewhere for long; what holds a body faces it, and is not."""
    body = standing()
    motion = act(MotionConfig(segments=(Segment("stand", 1.0),)))
    faces = whole_body().faces
    assert faces is not None
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]) if faces.shape[1] == 4 else faces
    vertices = body_vertices(motion, int(motion.times_ns[0]))
    mesh = StaticScene(vertices, triangles[:, ::-1] if turned else triangles, np.zeros((len(vertices), 3)))
    away = np.where(np.arange(5)[:, None] < frames, 0.0, 1.0) * np.array([1.0, 0.0, 0.0])
    skin = skin_over_time(dataclasses.replace(body, root_pos=body.root_pos + away), np.ones(5, dtype=bool))
    found = skin_in_scene_m2(mesh, skin, 0.0, StillConfig())
    config = StillConfig()
    assert found > 1.0 if told else found < config.told_m2
    assert ["a part of the person is taken for furniture" in line for line in told_of(found, config)] == told * [True]
