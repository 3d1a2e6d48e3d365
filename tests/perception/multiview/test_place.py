import dataclasses

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from perception.multiview.agreement import agreement
from perception.multiview.pair import reached, spanning_tree
from perception.multiview.place import PlaceConfig, Relation, place_views, relate, with_poses_only
from perception.multiview.refine import Link, RefineConfig, refine_poses
from perception.multiview.scene_search import scene_candidates, wall_direction
from perception.multiview.sketch import Sketch
from perception.spool import FrameSpool
from perception.synthetic.room import Mesh, box, merge, room
from tests.perception.multiview.sketches import displaced, path, pose_error, sketch
from tests.perception.small_scenes import poses, view

ROOM = room(np.random.default_rng(0))
MIDDLE = np.array([0.0, 0.0, 1.0])
EYES = ((2.0, -1.0, 1.5), (0.6, 2.0, 1.4), (-2.0, -0.6, 1.6))
LOOKS = [(0.0, 0.0, 0.8), (-1.5, 0.8, 0.6), (-1.2, -1.2, 0.5), (0.5, 1.5, 0.8), (1.0, -1.4, 0.5)]
WORLDS = (displaced(0.2, 1.0, 0.5), displaced(-2.0, -1.5, 2.0, 0.01), displaced(1.4, 0.3, -2.0))
OFFSETS = (0.0, 0.213, -1.4)


def seen(index: int, *, mesh: Mesh = ROOM, person: bool = True, end: float = 12.0, still: bool = False) -> Sketch:
    """The sketch of one of three cameras around the room."""
    times = np.arange(0.03 * index, end, 1 / 15)
    way = path(times, WORLDS[index], OFFSETS[index], noise_m=0.02, seed=index, still=still) if person else None
    return sketch(mesh, EYES[index], LOOKS, WORLDS[index], way, name=f"camera_{index + 1}")


@pytest.fixture(scope="module")
def three() -> list[Sketch]:
    return [seen(index) for index in range(3)]


def true_pose(index: int) -> np.ndarray:
    return WORLDS[0] @ se3_inverse(WORLDS[index])


def check(found: Relation, index: int, *, timed: bool = True) -> None:
    angle, apart = pose_error(
        found.T_world_view[index], true_pose(index), WORLDS[index][:3, :3] @ MIDDLE + WORLDS[index][:3, 3]
    )
    assert angle < 0.2
    assert apart < 0.01
    if timed:
        assert found.offsets_s[index] == pytest.approx(OFFSETS[index], abs=5e-3)


def test_two_cameras_come_into_one_world_and_onto_one_clock(three):
    found = relate(three[:2], PlaceConfig())
    assert found.kept == (0, 1) and found.warnings == () and found.loose_clocks == ()
    assert np.array_equal(found.T_world_view[0], np.eye(4))
    check(found, 1)
    assert found.figures["clock_gain"] > 8 and found.figures["place_margin"] > 0.1


def test_three_cameras_come_into_one_world_and_onto_one_clock(three):
    found = relate(three, PlaceConfig())
    assert found.kept == (0, 1, 2) and found.warnings == () and found.loose_clocks == ()
    check(found, 1)
    check(found, 2)


def test_a_camera_that_fails_half_way_is_placed_all_the_same(three):
    found = relate([three[0], seen(1, end=5.0)], PlaceConfig())
    check(found, 1)


def test_an_empty_room_is_aligned_by_the_scene_alone_and_the_stamps_are_kept():
    found = relate([seen(0, person=False), seen(1, person=False)], PlaceConfig())
    check(found, 1, timed=False)
    assert found.offsets_s.tolist() == [0.0, 0.0]
    assert any("by the scene alone" in warning for warning in found.warnings)
    assert [clocks.why for clocks in found.loose_clocks] == ["they do not both see somebody move"]


def test_a_camera_that_never_sees_the_person_is_placed_by_the_scene(three):
    found = relate([three[0], seen(1, person=False)], PlaceConfig())
    check(found, 1, timed=False)
    assert any("camera_2 sees nobody move" in warning for warning in found.warnings)


def test_a_person_who_stands_still_leaves_the_clocks_as_they_are(three):
    found = relate([seen(0, still=True), seen(1, still=True)], PlaceConfig())
    check(found, 1, timed=False)
    assert found.offsets_s.tolist() == [0.0, 0.0]
    assert ["does not tell how their clocks lie" in clocks.why for clocks in found.loose_clocks] == [True]


def test_stamps_are_kept_when_asked(three):
    found = relate([three[0], seen(1)], PlaceConfig(synchronise="never"))
    assert found.offsets_s.tolist() == [0.0, 0.0]


def test_recorded_worlds_are_kept_and_a_third_camera_joins_them(three):
    moved = [_in_true_world(three[0], 0), _in_true_world(three[1], 1), three[2]]
    found = relate(moved, PlaceConfig(), fixed=[0, 1])
    assert np.array_equal(found.T_world_view[0], np.eye(4)) and np.array_equal(found.T_world_view[1], np.eye(4))
    angle, apart = pose_error(found.T_world_view[2], se3_inverse(WORLDS[2]), WORLDS[2][:3, 3])
    assert angle < 0.2 and apart < 0.02
    assert found.offsets_s[2] - found.offsets_s[0] == pytest.approx(OFFSETS[2], abs=5e-3)


def test_recorded_worlds_can_be_synchronised_when_asked(three):
    moved = [_in_true_world(three[0], 0), _in_true_world(three[1], 1)]
    found = relate(moved, PlaceConfig(synchronise="always"), fixed=[0, 1])
    assert np.array_equal(found.T_world_view[1], np.eye(4))
    assert found.offsets_s[1] == pytest.approx(OFFSETS[1], abs=5e-3)


def _in_true_world(one: Sketch, index: int) -> Sketch:
    T = se3_inverse(WORLDS[index])
    frames = tuple(dataclasses.replace(frame, T_world_camera=T @ frame.T_world_camera) for frame in one.frames)
    assert one.path is not None
    return dataclasses.replace(
        one, points=one.points @ T[:3, :3].T + T[:3, 3], normals=one.normals @ T[:3, :3].T, frames=frames,
        path=one.path.transformed(T),
    )  # fmt: skip


SHOEBOX = merge([
    box((0, 0, -0.05), (5.2, 4.2, 0.1), (150, 120, 90)),
    box((2.6, 0, 1.2), (0.1, 4.2, 2.4), (200, 200, 200)), box((-2.6, 0, 1.2), (0.1, 4.2, 2.4), (200, 200, 200)),
    box((0, 2.1, 1.2), (5.2, 0.1, 2.4), (200, 200, 200)), box((0, -2.1, 1.2), (5.2, 0.1, 2.4), (200, 200, 200)),
])  # fmt: skip
"""A room that looks the same after half a turn."""


def test_a_symmetric_room_is_told_round_by_the_persons_way():
    found = relate([seen(0, mesh=SHOEBOX), seen(1, mesh=SHOEBOX)], PlaceConfig())
    check(found, 1)
    assert found.figures["place_margin"] > 0.1


def test_a_symmetric_room_without_a_person_is_not_guessed():
    found = relate([seen(0, mesh=SHOEBOX, person=False), seen(1, mesh=SHOEBOX, person=False)], PlaceConfig())
    assert found.kept == (0,)
    assert any("in several ways that fit equally well: it is left out" in warning for warning in found.warnings)


def test_a_camera_that_only_shares_a_floor_is_told_to_be_loose(three):
    """Nothing but a plane in common: the place on it stays open."""
    start = [np.eye(4), true_pose(1)]
    flat = [
        dataclasses.replace(one, points=one.points[low], normals=one.normals[low], path=None)
        for one in three[:2]
        for low in [(one.points[:, 2] < 0.05) & (one.normals[:, 2] > 0.99)]
    ]
    _, loose = refine_poses(flat, start, [Link(0, 1, None)], [0], RefineConfig())
    assert loose[1] > 0.05


def test_cameras_that_share_nothing_are_not_put_together(three):
    """A camera in a hall of another shape, with nobody: the part with more frames is kept."""
    hall = merge([
        box((0, 0, -0.05), (9, 9, 0.1), (150, 120, 90)), box((3.0, 0.4, 0.6), (0.5, 3.1, 1.2), (200, 60, 50)),
        box((1.0, -2.0, 0.3), (1.7, 0.6, 0.6), (200, 60, 50)),
    ])  # fmt: skip
    alone = sketch(hall, (0, 0, 1.5), [(3, 0, 0.5), (2, -2, 0.3), (3, 2, 0.5)], displaced(0.3, 0, 0), name="alone")
    found = relate([dataclasses.replace(alone, frame_count=40), *three[:2]], PlaceConfig())
    assert found.kept == (1, 2)
    assert any("camera alone" in warning and "shares too little" in warning for warning in found.warnings)


def test_the_refinement_brings_three_views_home(three):
    rng = np.random.default_rng(3)
    off = [np.eye(4), *(displaced(rng.normal(0, 0.03), *rng.normal(0, 0.08, 3)) for _ in range(2))]
    start = [T @ true_pose(index) for index, T in enumerate(off)]
    links = [Link(a, b, OFFSETS[b] - OFFSETS[a]) for a, b in ((0, 1), (0, 2), (1, 2))]
    found, loose = refine_poses(three, start, links, [0], RefineConfig())
    assert loose[0] == 0 and (loose[1:] > 0).all() and (loose[1:] < 0.02).all()
    for index in (1, 2):
        centre = WORLDS[index][:3, :3] @ MIDDLE + WORLDS[index][:3, 3]
        angle, apart = pose_error(found[index], true_pose(index), centre)
        assert angle < 0.2 and apart < 0.01


def test_the_walls_directions_and_one_of_the_guesses_are_right(three):
    a, b = three[:2]
    assert wall_direction(a)[1] > 0.3
    guesses = scene_candidates(a, b)
    errors = [pose_error(T, true_pose(1), WORLDS[1][:3, 3]) for T in guesses]
    assert min(apart for angle, apart in errors if angle < 5) < 0.3


def test_two_rooms_on_both_sides_of_a_wall_do_not_agree(three):
    a, b = three[:2]
    right = agreement(a, b, true_pose(1), OFFSETS[1])
    beyond = WORLDS[0] @ displaced(0.0, 5.3, 0.0) @ se3_inverse(WORLDS[1])
    assert right.agree > 0.3 and right.conflict < 0.02 and right.person > 0.9
    assert agreement(a, b, beyond, OFFSETS[1]).score < 0.15


def test_the_spanning_tree_takes_the_strongest_edges():
    edges = spanning_tree(4, {(0, 1): 0.2, (0, 2): 0.9, (1, 2): 0.8})
    assert sorted(edges) == [(0, 2), (1, 2)]
    assert sorted(reached([0], edges)) == [0, 1, 2]


def test_one_camera_stays_as_it_is():
    one = view(ROOM, poses((2.0, -1.0, 1.5), LOOKS))
    found = place_views([one])
    assert found.views == (one,) and found.clock_offset_ns == {"camera": 0} and found.warnings == ()


def test_cameras_with_recorded_poses_stay_as_they_are():
    both = [view(ROOM, poses(eye, LOOKS), name=name) for eye, name in zip(EYES[:2], "ab", strict=True)]
    found = place_views(both, common=["a", "b"])
    assert list(found.views) == both and found.clock_offset_ns == {"a": 0, "b": 0}


def test_frames_without_a_pose_are_left_out_and_told_of():
    one = view(ROOM, poses((2.0, -1.0, 1.5), LOOKS))
    T = one.T_world_camera.copy()
    T[1] = np.nan
    spool = FrameSpool(one.depth_mm.shape[1:], np.uint16)
    for image in one.depth_mm:
        spool.append(image)
    for depth in (one.depth_mm, spool):
        warnings: list[str] = []
        (kept,) = with_poses_only([dataclasses.replace(one, T_world_camera=T, depth_mm=depth)], warnings)
        assert len(kept.times_ns) == len(kept.color) == len(LOOKS) - 1
        assert np.array_equal(kept.depth_mm[1], one.depth_mm[2])
        assert warnings == ["camera camera: 1 of 5 frames have no pose and are left out"]


def test_no_pose_at_all_is_refused():
    one = view(ROOM, poses((2.0, -1.0, 1.5), LOOKS))
    with pytest.raises(InputError, match="no frame of camera has a pose"):
        place_views([dataclasses.replace(one, T_world_camera=np.full((len(LOOKS), 4, 4), np.nan))])
