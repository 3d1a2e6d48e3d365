"""The person's points: those of what moves, where and when it is, and nobody else's."""

import dataclasses

import numpy as np
import pytest

from perception.clusters import largest_cluster
from perception.person_tracks import spread
from perception.segment import PersonPoints, SegmentConfig, person_points
from perception.static_scene import SceneConfig
from perception.synthetic.acting import act
from perception.synthetic.exposure import body_vertices
from perception.synthetic.room import Mesh, box, merge, room
from perception.views import View, load_views
from tests.perception.small_scenes import MOVER, PERIOD_NS, WALK, distance, poses, true_scene, view

CONFIG = SegmentConfig(fps=10.0, stride=1, min_points=100, points_per_frame=300)
ROOM = room(np.random.default_rng(0))
SCENE = true_scene(ROOM)
FRAMES = 16
TRACK = [(x, 0.1) for x in np.linspace(-0.8, 0.8, FRAMES)]
EYES = ((1.7, -1.2, 1.6), (-1.0, 1.6, 1.6))


def seen(places, cameras: int = 2, *, mesh: Mesh = ROOM, starts_ns=(0, 0), seed: int | None = 0) -> list[View]:
    return [
        view(
            mesh,
            poses(eye, [(0, 0, 0.6)] * len(places)),
            places,
            name=f"cam{i}",
            seed=None if seed is None else seed + i,
            start_ns=start,
        )
        for i, (eye, start) in enumerate(zip(EYES[:cameras], starts_ns, strict=False))
    ]


def found(views: list[View], config: SegmentConfig = CONFIG) -> PersonPoints:
    person = person_points(views, SCENE, config, SceneConfig())
    assert person is not None
    return person


def mover(place: tuple[float, float]) -> Mesh:
    return dataclasses.replace(MOVER, vertices=MOVER.vertices + np.array([*place, 0.0]))


def test_points_lie_on_what_moves_at_its_time():
    """All points of each frame, 300 per camera, lie on the mover, where it is then, within the depth's noise."""
    person = found(seen(TRACK))
    np.testing.assert_array_equal(person.times_ns, PERIOD_NS * np.arange(FRAMES))
    assert person.points.shape == person.origin.shape == (FRAMES, 600, 3)
    for points, place in zip(person.points, TRACK, strict=True):
        assert np.quantile(distance(points, mover(place)), 0.95) < 0.03
        assert np.ptp(points[:, 2]) > 1.2  # from low to high
    assert (person.count > 300).all() and (person.views == 2).all()


def test_each_point_knows_the_camera_that_saw_it():
    """Both cameras have points; seen from its own, nothing of the mover hides a point."""
    person = found(seen(TRACK, seed=None))
    eyes = np.array(EYES)
    owner = np.linalg.norm(person.origin[:, :, None] - eyes, axis=-1)
    assert owner.min(axis=-1).max() < 1e-9
    assert 0.2 < owner.argmin(axis=-1).mean() < 0.8
    for points, origin, place in zip(person.points, person.origin, TRACK, strict=True):
        before = points + 0.05 * (origin - points) / np.linalg.norm(origin - points, axis=1, keepdims=True)
        inside = (np.abs(before - (*place, 0.8)) < np.array([0.2, 0.15, 0.75]) - 0.005).all(axis=1)
        assert inside.mean() < 0.05


def test_frames_without_anybody_are_empty_and_the_ends_are_cut_off():
    places: list = [None, None, *TRACK, None]
    places[8] = places[9] = None
    person = found(seen(places))
    np.testing.assert_array_equal(person.times_ns, PERIOD_NS * np.arange(2, 18))
    np.testing.assert_array_equal(np.flatnonzero(person.count == 0), [6, 7])
    np.testing.assert_array_equal(np.flatnonzero(person.views == 0), [6, 7])
    assert not person.points[6].any()


def test_cameras_that_start_apart_share_one_time_base():
    """The second camera is 37 ms late: its frames count for the nearest tenth of a second of the first."""
    person = found(seen(TRACK, starts_ns=(500_000_000, 537_000_000)))
    np.testing.assert_array_equal(person.times_ns, 500_000_000 + PERIOD_NS * np.arange(FRAMES))
    assert (person.views == 2).all()
    late = found(seen(TRACK, starts_ns=(0, 3 * PERIOD_NS)))
    assert len(late.times_ns) == FRAMES + 3
    np.testing.assert_array_equal(late.views, [1] * 3 + [2] * (FRAMES - 3) + [1] * 3)


def test_one_camera_is_enough():
    person = found(seen(TRACK, cameras=1))
    assert (person.views == 1).all()
    for points, place in zip(person.points, TRACK, strict=True):
        assert np.quantile(distance(points, mover(place)), 0.95) < 0.03


def test_a_faster_camera_is_still_one_camera():
    """Frames every 100 ms on a base of 200 ms: each slot takes the one nearest in time."""
    person = found(seen(TRACK, cameras=1), dataclasses.replace(CONFIG, fps=5.0))
    assert (person.views == 1).all()
    for index, points in enumerate(person.points):
        assert np.quantile(distance(points, mover(TRACK[min(2 * index, FRAMES - 1)])), 0.95) < 0.03


def test_an_empty_room_has_nobody():
    assert person_points(seen([None] * FRAMES), SCENE, CONFIG, SceneConfig()) is None


def test_furniture_that_the_mesh_lacks_is_nobody():
    """Something of a person's size that never moves stands before the scene as a person would."""
    assert person_points(seen([(0.2, 0.1)] * FRAMES), SCENE, CONFIG, SceneConfig()) is None
    assert person_points(seen([(0.2, 0.1)] * FRAMES), SCENE, dataclasses.replace(CONFIG, min_moved=-1.0), SceneConfig())


def test_somebody_who_is_seen_for_less_than_half_a_second_is_nobody():
    places: list = [None] * FRAMES
    places[5:9] = TRACK[4:8]
    assert person_points(seen(places), SCENE, CONFIG, SceneConfig()) is None


def test_a_small_thing_is_nobody():
    assert person_points(seen(TRACK), SCENE, dataclasses.replace(CONFIG, min_points=100_000), SceneConfig()) is None


def test_the_seed_decides_which_points_are_kept():
    views = seen(TRACK)
    one, same, other = (found(views, dataclasses.replace(CONFIG, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.points, same.points)
    assert not np.array_equal(one.points, other.points)


def test_far_depth_is_not_the_person():
    """With depth up to 1 m nobody is seen, though the mover is there."""
    config = dataclasses.replace(CONFIG, max_depth_m=1.0)
    assert person_points(seen(TRACK), SCENE, config, SceneConfig()) is None


def test_an_acted_person_is_found_in_a_recording(walk):
    """Points of the synthetic person lie on its true skin, in every frame and from head to foot."""
    motion = act(WALK)
    views = load_views(walk / "recording.mcap", 0.1)
    person = person_points(views, SCENE, SegmentConfig(fps=20.0, stride=1, min_points=80), SceneConfig())
    assert person is not None
    assert person.times_ns[0] == min(view.times_ns[0] for view in views)
    assert len(person.times_ns) == pytest.approx(20 * 2.55, abs=2)
    assert (person.count > 0).all() and (person.views == 2).mean() > 0.75
    for index in range(0, len(person.times_ns), 6):
        body = body_vertices(motion, int(person.times_ns[index]))
        gap = np.linalg.norm(person.points[index][:, None] - body[None, ::4], axis=-1).min(axis=1)
        assert np.median(gap) < 0.03 and np.quantile(gap, 0.95) < 0.09
        assert person.points[index][:, 2].max() > 1.5 and person.points[index][:, 2].min() < 0.25


def block(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    """Points every 2 cm in a block."""
    axes = [np.arange(a + 0.01, b, 0.02) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def test_the_largest_cluster_and_what_stands_by_it():
    """A trunk, an arm a fifth its size 24 cm beside it, a speck by it, and something large 2 m away."""
    trunk = block((-0.16, -0.08, 0), (0.16, 0.08, 1.6))
    arm = block((0.40, -0.08, 0.8), (0.56, 0.08, 1.6))
    speck, away = block((0.40, 0.4, 0.8), (0.48, 0.48, 0.88)), block((2.0, 0, 0), (2.16, 0.16, 1.4))
    assert len(speck) < 0.2 * len(trunk) < min(len(arm), len(away)) < len(trunk)
    kept = largest_cluster(np.concatenate([trunk, arm, speck, away]), 0.08)
    assert {tuple(p) for p in kept} == {tuple(p) for p in np.concatenate([trunk, arm])}


def test_few_or_scattered_points_are_no_cluster():
    assert len(largest_cluster(np.zeros((9, 3)), 0.08)) == 0
    assert len(largest_cluster(np.arange(60.0).reshape(20, 3), 0.08)) == 0
    assert len(largest_cluster(1e4 * np.random.default_rng(0).random((50, 3)), 0.08)) == 0


def test_thinning_spreads_over_space():
    """900 points in a corner of a cell and 100 cells with one each: every cell is in a choice of 101."""
    dense = np.random.default_rng(0).random((900, 3)) * 0.02
    sparse = np.array([[x, y, 1] for x in range(10) for y in range(10)]) * 0.3 + 0.01
    points = np.concatenate([dense, sparse])
    pick = spread(points, 101, np.random.default_rng(1))
    assert len(pick) == 101 and (pick >= 900).sum() == 100
    more = spread(points, 500, np.random.default_rng(1))
    assert len(more) == 500 and len(set(more[more >= 900])) == 100
    fewer = spread(points, 40, np.random.default_rng(1))
    assert len(set(fewer)) == 40


def test_two_boxes_in_the_room_are_told_from_it():
    """The scene with a box in it leaves the box out, the scene without shows it as points."""
    furnished = merge([ROOM, box((0.3, 0.3, 0.6), (0.3, 0.3, 1.0), (9, 9, 9))])
    views = seen(TRACK, mesh=furnished)
    person = person_points(views, true_scene(furnished), CONFIG, SceneConfig())
    assert person is not None
    for points, place in zip(person.points, TRACK, strict=True):
        assert np.quantile(distance(points, mover(place)), 0.9) < 0.04
