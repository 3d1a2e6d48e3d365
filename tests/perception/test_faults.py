"""Bad recordings: each gives a clear message and the best result that is possible, never a silent wrong answer."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from perception.camera_faults import check_depth, ended_cameras, lost_frames, without_wrong_poses
from perception.fit import FitConfig
from perception.multiview.place import with_poses_only
from perception.person_tracks import Tracker
from perception.reconstruct import HUMAN_FILE, SCENE_FILE, ReconstructConfig, Reconstruction, reconstruct
from perception.segment import PersonPoints, PersonSearch, SegmentConfig, find_person
from perception.static_scene import SceneConfig, StaticScene, reconstruct_scene
from perception.synthetic.acting import act
from perception.synthetic.exposure import body_vertices
from perception.synthetic.generate import SyntheticConfig, generate
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import Mesh, box, room
from perception.views import View, load_views
from tests.perception.small_scenes import WALK, distance, poses, view

FPS = 8.0
SEGMENT = SegmentConfig(fps=FPS, stride=1, min_points=60, points_per_frame=200)
SCENE = SceneConfig(voxel_m=0.04, stride_s=0.1)
FIT = FitConfig(coarse_iterations=1, iterations=1)
CONFIG = ReconstructConfig(scene=SCENE, segment=SEGMENT, fit=FIT)
CLIP = SyntheticConfig(width=128, height=96, fps=FPS, max_seconds=2.6, workers=1, motion=WALK)
ROOM = room(np.random.default_rng(0))
EYES = ((1.7, -1.2, 1.6), (-1.0, 1.6, 1.6))


def recorded(folder: Path, **faults) -> Path:
    """Record the walk with faults; the recording's file."""
    generate(dataclasses.replace(CLIP, **faults), folder / "recording")
    return folder / "recording" / "recording.mcap"


def looked_for(recording: Path) -> tuple[list[View], StaticScene, PersonSearch]:
    """What `reconstruct` does before the fit."""
    warnings: list[str] = []
    views = [without_wrong_poses(one, warnings) for one in load_views(recording, SCENE.stride_s, require_poses=False)]
    views = with_poses_only(views, warnings)
    scene = reconstruct_scene(views, SCENE)
    search = find_person(views, scene, SEGMENT, SCENE)
    return views, scene, dataclasses.replace(search, warnings=(*warnings, *search.warnings))


def off_the_body(person: PersonPoints, motion: MotionConfig = WALK) -> np.ndarray:
    """Median distance of the points to the true skin, m, for each frame that is seen."""
    acted = act(motion)
    gaps = []
    for index in np.flatnonzero(person.count > 0):
        body = body_vertices(acted, int(np.clip(person.times_ns[index], 0, acted.times_ns[-1])))
        gaps.append(np.median(np.linalg.norm(person.points[index][::4, None] - body[None, ::6], axis=-1).min(axis=1)))
    return np.array(gaps)


def test_blur_and_a_fifth_of_the_frames_lost(tmp_path):
    """Nobody's frame is far from the true body; what is missing is told for each camera."""
    views, _, search = looked_for(recorded(tmp_path, blur_s=0.04, dropped=0.2))
    assert search.person is not None
    assert (search.person.count > 0).mean() > 0.8
    assert off_the_body(search.person).max() < 0.06
    told = lost_frames(views)
    assert len(told) == 2 and all("frames are missing" in line for line in told)


def test_a_camera_that_fails_half_way(tmp_path):
    """It is said which, when, and that one camera is left; the person is followed to the end."""
    views, _, search = looked_for(recorded(tmp_path, fails_at=0.45))
    (told,) = ended_cameras(views)
    assert told.startswith("camera camera_2 recorded nothing after 1.") and "only one camera sees the person" in told
    assert search.person is not None and search.person.times_ns[-1] > 2.4e9
    seconds = search.person.times_ns * 1e-9
    assert (search.person.views[seconds > 1.3] == 1).all() and (search.person.views[seconds < 1.0] == 2).any()


def test_a_person_who_leaves_and_comes_back(tmp_path):
    """Through `reconstruct`: the frames between are marked, have no contact, and are told with their times."""
    result = reconstruct(recorded(tmp_path, away_s=(0.9, 1.7), cameras=1), tmp_path / "out", CONFIG)
    motion = HumanMotion.load(tmp_path / "out" / HUMAN_FILE)
    seconds = motion.times_ns * 1e-9
    away = (seconds > 0.95) & (seconds < 1.65)
    assert away.sum() >= 5 and not motion.seen[away].any()
    assert motion.seen[(seconds > 0.3) & (seconds < 0.85)].all() and motion.seen[seconds > 1.8].all()
    assert motion.contact[~motion.seen].max() == 0
    assert any("not seen in" in line and "6 of 20 frames, 0.9 to 1.5 s" in line for line in result.warnings)
    assert result.figures["unseen_frames"] == (~motion.seen).sum()


def only_the_scene(result: Reconstruction, out: Path) -> str:
    """The one warning of a reconstruction that has a scene and nobody in it."""
    assert (out / SCENE_FILE).is_file() and not (out / HUMAN_FILE).exists()
    assert result.figures["triangles"] > 1000
    (told,) = [line for line in result.warnings if "only the scene" in line]
    return told


def test_an_empty_room(tmp_path):
    told = only_the_scene(reconstruct(recorded(tmp_path, person=False), tmp_path / "out", CONFIG), tmp_path / "out")
    assert told.startswith("nobody moves in the recording")


def test_somebody_who_stands_still_all_the_time(tmp_path):
    """They are part of the scene; it is said that this can be, and what to do."""
    still = MotionConfig(segments=(Segment("stand", 2.6),))
    result = reconstruct(recorded(tmp_path, motion=still), tmp_path / "out", CONFIG)
    told = only_the_scene(result, tmp_path / "out")
    (place,) = [line for line in result.warnings if "a person's size and shape" in line]
    assert "stands at (-0.4, 0.0)" in place or "stands at (-0.5, 0.0)" in place
    assert "stands still the whole time" in told and "walk away once" in told


def test_two_people(tmp_path):
    """The one who is seen most is kept from end to end, though the other comes as near as 60 cm."""
    second = MotionConfig(segments=(Segment("walk", 2.5, 1.0),), start_xy=(0.5, 0.6), heading=np.pi)
    _, _, search = looked_for(recorded(tmp_path, second_person=second, cameras=2))
    assert search.person is not None
    assert any(line.startswith("2 people are in the recording") for line in search.warnings)
    off = min((off_the_body(search.person, who) for who in (WALK, second)), key=np.median)
    assert off.max() < 0.08
    assert (search.person.count > 0).mean() > 0.9


@pytest.mark.parametrize("with_poses", [True, False], ids=["poses", "no_poses"])
@pytest.mark.parametrize(("units", "named"), [(10_000.0, "0.1 mm"), (100.0, "cm")])
def test_depth_in_another_unit(tmp_path, with_poses, units, named):
    """Refused before anything is tracked or rebuilt, with the unit that would make it a room."""
    recording = recorded(tmp_path, depth_units_per_m=units, poses=with_poses, max_seconds=0.6)
    with pytest.raises(InputError, match=rf"camera_1: .*no room; .*another unit.*{named}"):
        reconstruct(recording, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_depth_of_a_room_is_not_refused():
    check_depth([view(ROOM, poses(EYES[0], [(0, 0, 0.6)] * 3))])


def test_wildly_wrong_poses(tmp_path):
    """Their frames are left out and told; scene and person are as good as without them."""
    _, scene, search = looked_for(recorded(tmp_path, wrong_poses=0.1, seed=3))
    told = [line for line in search.warnings if "are taken to be wrong and left out" in line]
    assert told and "jump (first at" in told[0]
    assert np.quantile(distance(scene.vertices, room(np.random.default_rng(3))), 0.85) < 0.05
    assert search.person is not None and off_the_body(search.person).max() < 0.08


FRAMES = 16


def seen(places, mover: Mesh, cameras: int = 2) -> list[View]:
    """Views of the room while something goes through it."""
    return [
        view(ROOM, poses(eye, [(0, 0, 0.6)] * FRAMES), places, name=f"cam{i}", seed=i, mover=mover)
        for i, eye in enumerate(EYES[:cameras])
    ]


def test_holes_in_the_depth():
    """A third of the readings and a third of the image are gone in all frames; the mover is found where it is seen."""
    track = [(x, 0.1) for x in np.linspace(-0.8, 0.8, FRAMES)]
    whole = seen(track, box((0, 0, 0.8), (0.4, 0.3, 1.5), (200, 120, 60)))
    views = []
    for one in whole:
        depth = np.asarray(one.depth_mm).copy()
        depth[np.random.default_rng(5).random(depth.shape) < 0.33] = 0
        depth[:, 80:, :] = 0
        views.append(dataclasses.replace(one, depth_mm=depth))
    config = dataclasses.replace(SEGMENT, fps=10.0)
    search = find_person(views, reconstruct_scene(views, SCENE), config, SCENE)
    assert search.person is not None and (search.person.count > 0).mean() > 0.9


CHAIR = box((0, 0, 0.45), (0.45, 0.45, 0.9), (60, 90, 60))
DOOR = box((0, 0, 1.0), (0.9, 0.04, 2.0), (150, 120, 90))


@pytest.mark.parametrize(("what", "why"), [(CHAIR, "a person shows 1 m"), (DOOR, "flat, as a door is")])
def test_a_chair_or_a_door_that_moves_is_nobody(what, why):
    """A chair that is pulled through the room and stands still before and after, and a door that slides."""
    way = np.concatenate([np.full(4, -0.8), np.linspace(-0.8, 0.8, FRAMES - 8), np.full(4, 0.8)])
    views = seen([(float(x), 0.1) for x in way], what, cameras=1)
    search = find_person(views, reconstruct_scene(views, SCENE), dataclasses.replace(SEGMENT, fps=10.0), SCENE)
    assert search.person is None
    assert why in search.warnings[-1]


def block(middle: tuple[float, float], height: float = 1.7, width: float = 0.4) -> np.ndarray:
    """Points every 4 cm in an upright block."""
    axes = [np.arange(-width / 2 + 0.02, width / 2, 0.04), np.arange(-0.13, 0.14, 0.04), np.arange(0.02, height, 0.04)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) + np.array([*middle, 0.0])


def followed(ways: list[np.ndarray], heights: list[float]) -> Tracker:
    """Tracks of blocks that go along ways (T, 2) at 20 Hz."""
    tracker = Tracker(20.0, 0.08, 60, 100, 0)
    for step in range(len(ways[0])):
        tracker.add(step, [np.concatenate([block(w[step], h) for w, h in zip(ways, heights, strict=True)])], [0])
    return tracker


def test_two_who_touch_stay_two_tracks():
    """They come together until they touch, stand so for a while and part; each goes on as itself."""
    x = np.concatenate([np.linspace(0.9, 0.22, 20), np.full(10, 0.22), np.linspace(0.22, 0.9, 20)])
    left, right = np.stack([-x, 0 * x], axis=1), np.stack([x, 0.02 + 0 * x], axis=1)
    tracker = followed([left, right], [1.7, 1.6])
    tracks = [track for track in tracker.tracks if len(track.sightings) > 5]
    assert len(tracks) == 2
    for track, way in zip(sorted(tracks, key=lambda t: t.sightings[0].middle[0]), (left, right), strict=True):
        middles = np.stack([sighting.middle[:2] for sighting in track.sightings.values()])
        assert len(middles) == 50
        assert np.abs(middles - way).max() < 0.12


def test_two_who_pass_each_other_are_not_exchanged():
    x = np.linspace(-1.0, 1.0, 30)
    ways = [np.stack([x, 0 * x - 0.2], axis=1), np.stack([-x, 0 * x + 0.2], axis=1)]
    tracker = followed(ways, [1.7, 1.7])
    tracks = [track for track in tracker.tracks if len(track.sightings) > 5]
    assert len(tracks) == 2
    for track in tracks:
        way = ways[0] if track.sightings[0].middle[0] < 0 else ways[1]
        middles = np.stack([sighting.middle[:2] for sighting in track.sightings.values()])
        assert np.abs(middles - way).max() < 0.15


def test_a_pushed_chair_is_not_part_of_who_pushes_it():
    """The chair stands alone at first; later both move as one cluster and stay two."""
    x = np.concatenate([np.linspace(-1.2, -0.42, 15), np.linspace(-0.42, 0.6, 20)])
    chair = np.concatenate([np.full(15, 0.0), np.linspace(0.0, 1.02, 20)])
    tracker = followed([np.stack([x, 0 * x], axis=1), np.stack([chair, 0 * x], axis=1)], [1.7, 0.8])
    tracks = [track for track in tracker.tracks if len(track.sightings) > 5]
    assert len(tracks) == 2
    tall = max(tracks, key=lambda track: track.typical("length_m"))
    assert np.abs([s.middle[0] - p for s, p in zip(tall.sightings.values(), x, strict=True)]).max() < 0.12


@pytest.mark.slow
def test_lost_frames_and_a_person_who_is_away_without_poses(tmp_path):
    """Nothing is known of the camera, a fifth of the frames is lost: tracked, rebuilt, and the gap marked and told."""
    walk = MotionConfig(segments=(Segment("walk", 2.5, 1.6), Segment("walk", 2.0, 0.5)), start_xy=(-0.8, 0.0))
    faults = {"dropped": 0.2, "poses": False, "away_s": (1.4, 2.2), "cameras": 1, "motion": walk}
    recording = recorded(tmp_path, max_seconds=4.0, fps=15.0, width=160, height=120, **faults)
    config = dataclasses.replace(CONFIG, segment=dataclasses.replace(SEGMENT, fps=15.0))
    result = reconstruct(recording, tmp_path / "out", config)
    motion = HumanMotion.load(tmp_path / "out" / HUMAN_FILE)
    seconds = motion.times_ns * 1e-9
    assert not motion.seen[(seconds > 1.45) & (seconds < 2.15)].any()
    assert motion.seen[seconds < 1.3].mean() > 0.6 and motion.seen[seconds > 2.4].mean() > 0.6
    assert seconds[-1] > 3.5
    assert any("frames are missing" in line for line in result.warnings)
    assert any("not seen in" in line and "1.4 to 2.1 s" in line for line in result.warnings)
