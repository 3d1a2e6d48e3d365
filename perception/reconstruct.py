"""`reconstruct`: a Recording to a Reconstruction, the scene's mesh and the person's motion in metres."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bodydouble.artifacts import (
    atomic_dir,
    inputs_hash,
    is_current,
    machine_info,
    provenance,
    read_json,
    write_json,
)
from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES
from perception.body.body_model import BodyModel
from perception.body.smpl_body import SmplBody, poses_to_smpl
from perception.camera_faults import check_depth, ended_cameras, lost_frames, without_wrong_poses
from perception.clip_fit import FitTerm
from perception.contacts import ContactConfig, skin_contacts
from perception.fit import FitConfig, FittedBody, fit_body
from perception.keypoints.file import Keypoints
from perception.keypoints.term import KeypointConfig, ReprojectionTerm, check_cameras, read_keypoints
from perception.multiview.body_clock import body_clocks
from perception.multiview.place import PlaceConfig, PlacedViews, clock_warnings, confirmed, place_views, retimed
from perception.person_in_scene import StillConfig, skin_in_scene_m2, skin_over_time, told_of, without_still_person
from perception.scene_parts import PartsConfig, like_somebody, scene_parts
from perception.segment import KnownBody, PersonPoints, PersonSearch, SegmentConfig, find_person
from perception.skin import whole_body
from perception.somebody import SomebodyConfig, no_somebody
from perception.static_scene import SceneConfig, StaticScene, reconstruct_scene, without_remains
from perception.tracking.tracker import TrackingConfig, track_cameras
from perception.views import View, load_views
from policy.threads import one_thread
from sim.stage.floor import find_floor
from sim.stage.scene_mesh import SceneMesh

MANIFEST_FILE = "reconstruction.json"
"""Figures, warnings, provenance."""
SCENE_FILE = "scene.ply"
"""The static scene."""
ROUNDS = 3
"""Times that the person is looked for again with a coarse fit of the body at most."""
CLOCK_LEFT_S = 0.004
"""Offset of a clock that is not worth another round, s."""
HUMAN_FILE = "human.npz"
"""The person's motion, where there is a person."""
SMPL_FILE = "smpl.npz"
"""The person's motion as SMPL's own parameters, where an SMPL body was fitted."""
CAMERAS_FILE = "cameras.npz"
"""Names, intrinsics, times, poses and clock offsets of the cameras."""


@dataclass(frozen=True)
class ReconstructConfig:
    """How a recording is rebuilt."""

    track: TrackingConfig = field(default_factory=TrackingConfig)
    """Where cameras without recorded poses were."""
    place: PlaceConfig = field(default_factory=PlaceConfig)
    """Several cameras in one world and on one clock."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """The static scene."""
    parts: PartsConfig = field(default_factory=PartsConfig)
    """The scene's planes and objects."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    """The person's points."""
    somebody: SomebodyConfig = field(default_factory=SomebodyConfig)
    """When what has a person's size and moves is somebody."""
    still: StillConfig = field(default_factory=StillConfig)
    """The part of somebody who stays on one spot that is taken for furniture at first."""
    fit: FitConfig = field(default_factory=FitConfig)
    """The body."""
    contacts: ContactConfig = field(default_factory=ContactConfig)
    """The contacts."""
    keypoints: Path | None = None
    """2D keypoints: an .npz file of one camera, a folder of such files, or an ONNX detector to run on the colour."""
    keypoint: KeypointConfig = field(default_factory=KeypointConfig)
    """How keypoints pull."""
    body: Path | None = None
    """Your SMPL, SMPL-H or SMPL-X model (.npz), to fit in place of the Anny body; smpl.npz then gets its parameters."""


@dataclass(frozen=True)
class Reconstruction:
    """A written reconstruction."""

    path: Path
    """Its folder."""
    figures: dict[str, float]
    """Figures of reconstruction.json."""
    warnings: tuple[str, ...]
    """What the user should know."""

    def __str__(self) -> str:
        """One line: what was rebuilt, how well and how fast."""
        f = self.figures
        person = f"person {f['person_s']:.1f} s, fit {f['fit_error_mm']:.0f} mm" if "person_s" in f else "no person"
        return f"{self.path}: scene of {f['triangles']:.0f} triangles, {person}, in {f['seconds']:.0f} s"


@one_thread()
def reconstruct(recording: Path, out: Path, config: ReconstructConfig | None = None) -> Reconstruction:
    """Rebuild room and person; a reconstruction made from the same recording and settings is left as it is.

    Args:
        recording: The recording (.mcap). Recorded camera poses are kept, their world is Z up. Cameras without poses are
            tracked, and brought into one world and onto one clock.
        out: Folder to write scene.ply, scene_parts.json and .npz, cameras.npz, human.npz and reconstruction.json into;
            and smpl.npz, with an SMPL body.
        config: Settings.

    Raises:
        RecordingError: The recording is damaged, or lacks images or intrinsics.
        InputError: There is no depth, no surface in it, no camera whose way can be found, or the body file is unusable.
    """
    config = config or ReconstructConfig()
    if not recording.is_file():
        raise InputError(f"{recording}: no such recording; make one with `bodydouble record` or `bodydouble import`")
    inputs = {"recording": recording} | ({"keypoints": config.keypoints} if config.keypoints else {})
    if config.keypoints is not None and not config.keypoints.exists():
        raise InputError(
            f"{config.keypoints}: no such keypoints; give an .npz file, a folder of them, or a detector.onnx"
        )
    model = None if config.body is None else SmplBody.load(config.body)
    inputs |= {"body": config.body} if config.body else {}
    if is_current(out / MANIFEST_FILE, inputs_hash(config, inputs)):
        manifest = read_json(out / MANIFEST_FILE)
        return Reconstruction(out, manifest["figures"], tuple(manifest["warnings"]))
    console = Console(stderr=True)
    clock = _Clock()
    loaded = load_views(recording, config.scene.stride_s, require_poses=False)
    check_depth(loaded)
    keypoints = _keypoints(recording, loaded, config)
    clock.lap("read_s")
    placed, warnings = _placed(recording, loaded, config, clock)
    views = placed.views
    warnings += ended_cameras(views)
    scene = reconstruct_scene(views, config.scene)
    clock.lap("scene_s")
    placed, scene, search = _found(placed, scene, config, _clocks_are_free(loaded, placed, config))
    views = placed.views
    clock.lap("segment_s")
    person = search.person
    warnings += [*clock_warnings(placed), *search.warnings]
    figures: dict[str, float] = {"cameras": float(len(views))} | placed.figures
    motion = None
    if person is not None:
        terms = _keypoint_terms(keypoints, placed, person, config)
        motion, scene, found = _person(person, scene, views, config, terms, model)
        clock.lap("fit_s")
        figures |= found | {"single_view_share": float((person.views < 2).mean())}
        warnings += told_of(found["skin_in_scene_m2"], config.still)
        if len(views) == 1:
            warnings.append("one camera only: what it does not see of the person is guessed, accuracy is lower")
    parts = scene_parts(scene, config.parts)
    clock.lap("parts_s")
    figures |= {"planes": float(len(parts.planes)), "objects": float(len(parts.objects))}
    if motion is None:
        warnings += [
            f"something of a person's size and shape, {thing.bottom_m + 2 * thing.half[2]:.1f} m high, stands at "
            f"({thing.centre[0]:.1f}, {thing.centre[1]:.1f}) all the time: if it is somebody, let them walk away once"
            for thing in like_somebody(parts)
        ]
    for warning in warnings:
        console.print(f"warning: {warning}")
    figures |= clock.laps | {"triangles": float(len(scene.triangles)), "seconds": sum(clock.laps.values())}
    # A step of time counts once, however many cameras saw it.
    figures["frames_per_s"] = max(len(view.times_ns) for view in loaded) / figures["seconds"]
    with atomic_dir(out) as folder:
        scene.save(str(folder / SCENE_FILE))
        parts.save(folder)
        _save_cameras(folder / CAMERAS_FILE, placed)
        if motion is not None:
            motion.save(folder / HUMAN_FILE)
            if model is not None:
                np.savez(folder / SMPL_FILE, **poses_to_smpl(motion, model))  # type: ignore[arg-type]
        manifest: dict[str, Any] = {
            "provenance": provenance(config, inputs),
            "machine": machine_info(),
            "figures": figures,
            "warnings": warnings,
            "seeds": [config.segment.seed],
        }
        write_json(folder / MANIFEST_FILE, manifest)
    return Reconstruction(out, figures, tuple(warnings))


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now


def _placed(
    recording: Path, loaded: Sequence[View], config: ReconstructConfig, clock: _Clock
) -> tuple[PlacedViews, list[str]]:
    """Return the cameras in one world and on one clock, and what to say of them."""
    posed = [view.name for view in loaded if np.isfinite(view.T_world_camera).any()]
    unposed = [view for view in loaded if view.name not in posed]
    warnings = lost_frames(loaded)
    tracked = {view.name: without_wrong_poses(view, warnings) for view in loaded if view.name in posed}
    if unposed:
        try:
            trajectories = track_cameras(unposed, config.track)
        except InputError as error:
            raise InputError(f"{recording}: camera poses were not recorded and cannot be found: {error}") from None
        for view, trajectory in zip(unposed, trajectories, strict=True):
            tracked[view.name] = dataclasses.replace(view, T_world_camera=trajectory.T_world_camera)
            warnings += trajectory.warnings
        clock.lap("track_s")
    placed = place_views([tracked.get(view.name, view) for view in loaded], config.place, common=posed)
    clock.lap("place_s")
    return placed, [*warnings, *placed.warnings]


def _clocks_are_free(loaded: Sequence[View], placed: PlacedViews, config: ReconstructConfig) -> bool:
    """Return whether the offsets between the cameras' clocks were to be found."""
    if len(placed.views) < 2 or config.place.synchronise == "never":
        return False
    unposed = any(not np.isfinite(view.T_world_camera).any() for view in loaded)
    return unposed or config.place.synchronise == "always"


def _found(
    placed: PlacedViews, scene: StaticScene, config: ReconstructConfig, clocks_are_free: bool
) -> tuple[PlacedViews, StaticScene, PersonSearch]:
    """Return the cameras, the scene and the person, who is looked for again once a coarse fit of the body is known.

    Then what the person left in the scene is gone, and what is left between the clocks.
    """
    nobody = functools.partial(no_somebody, config=config.somebody)
    search = find_person(placed.views, scene, config.segment, config.scene, nobody=nobody)
    coarse = dataclasses.replace(config.fit, iterations=0)
    opened, still = without_still_person(
        scene, search, placed.views, _floor_z(scene), config.still, config.parts, config.segment, config.scene, coarse
    )
    if still.person is not None and (still is search or nobody(still.person) is None):
        scene, search = opened, still
    figures = dict(placed.figures)
    for number in range(ROUNDS):
        person = search.person
        # The second round and the third are for the clocks alone.
        if person is None or (number > 0 and not clocks_are_free):
            break
        floor_z = _floor_z(scene)
        body = fit_body(person, floor_z, coarse)
        change = np.zeros(len(placed.views))
        if clocks_are_free:
            clocks = body_clocks(body, person, placed.views)
            figures["clock_deviation_ms"] = 1000 * float(np.nanmax(clocks.deviation_s, initial=0.0))
            change = clocks.change_s()
            placed = confirmed(placed, clocks.deviation_s)
        late = np.abs(change).max() >= CLOCK_LEFT_S
        if number > 0 and not late:
            break
        placed = retimed(placed, change) if late else placed
        there = _skin_points(body, person.times_ns, whole_body())
        cleaned = without_remains(scene, placed.views, *there, floor_z, config.scene)
        known = KnownBody(person.times_ns, body.joint_pos)
        again = find_person(placed.views, cleaned, config.segment, config.scene, known)
        if again.person is None:
            break
        scene, search = cleaned, PersonSearch(again.person, tuple(dict.fromkeys((*search.warnings, *again.warnings))))
    return dataclasses.replace(placed, figures=figures), scene, search


def _floor_z(scene: StaticScene) -> float:
    return find_floor(SceneMesh(scene.vertices, scene.triangles, scene.colors)).height_m


def _keypoints(recording: Path, loaded: Sequence[View], config: ReconstructConfig) -> list[Keypoints]:
    """Return the keypoints of the recording's cameras; none where none are given."""
    if config.keypoints is None:
        return []
    found = read_keypoints(config.keypoints, recording)
    check_cameras(found, [view.name for view in loaded])
    return found


def _keypoint_terms(
    keypoints: Sequence[Keypoints], placed: PlacedViews, person: PersonPoints, config: ReconstructConfig
) -> list[FitTerm]:
    """Return the fit's terms of keypoints: of the cameras that could be placed."""
    names = [view.name for view in placed.views]
    kept = [found for found in keypoints if found.camera in names]
    if not kept:
        return []
    return [ReprojectionTerm(kept, placed.views, person.times_ns, placed.clock_offset_ns, config.keypoint)]


def _person(
    person: PersonPoints,
    scene: StaticScene,
    views: Sequence[View],
    config: ReconstructConfig,
    terms: Sequence[FitTerm] = (),
    model: BodyModel | None = None,
) -> tuple[HumanMotion, StaticScene, dict[str, float]]:
    floor_z = _floor_z(scene)
    body: FittedBody = fit_body(person, floor_z, config.fit, scene=scene, views=views, terms=terms, model=model)
    whole = model or whole_body()
    scene = without_remains(scene, views, *_skin_points(body, person.times_ns, whole), floor_z, config.scene)
    fps = config.segment.fps
    contacts = skin_contacts(
        body.pose, body.root_pos, body.shape, fps, scene, floor_z, config.contacts, person.count > 0, model
    )
    motion = HumanMotion(
        times_ns=person.times_ns,
        joint_names=JOINT_NAMES,
        joint_pos=body.joint_pos,
        joint_quat=body.joint_quat,
        contact_names=CONTACT_NAMES,
        contact=contacts.probability,
        contact_pos=contacts.position,
        body_model=whole.name,
        shape_names=whole.shape_names,
        shape=body.shape,
        pose=body.pose,
        root_pos=body.root_pos,
        seen=person.count > 0,
    )
    seen = motion.seen
    figures = {
        "fit_error_mm": 1000 * float(np.median(body.residual_m[seen])),
        "person_s": float((person.times_ns[-1] - person.times_ns[0]) * 1e-9),
        "person_frames": float(len(person.times_ns)),
        "unseen_frames": float((~seen).sum()),
        "floor_z_m": floor_z,
        "skin_in_scene_m2": skin_in_scene_m2(scene, skin_over_time(body, seen, model), floor_z, config.still),
    }
    return motion, scene, figures


@torch.no_grad()
def _skin_points(body: FittedBody, times_ns: np.ndarray, whole: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Return about a hundred times (N,), ns, and points on the fitted body then (N, V, 3), world, m."""
    skin = whole.subset(whole.sample_vertices(1500))
    some = slice(None, None, max(1, len(body.pose) // 100))
    pose, root, shape = (
        torch.as_tensor(x, dtype=skin.dtype) for x in (body.pose[some], body.root_pos[some], body.shape)
    )
    vertices = skin.forward(pose, root, shape).vertices
    assert vertices is not None
    return times_ns[some], vertices.double().numpy()


def _save_cameras(path: Path, placed: PlacedViews) -> None:
    arrays: dict[str, Any] = {"names": np.array([view.name for view in placed.views])}
    for view in placed.views:
        arrays |= {
            f"{view.name}_K": view.K,
            f"{view.name}_size": np.array(view.size),
            f"{view.name}_times_ns": view.times_ns,
            f"{view.name}_T_world_camera": view.T_world_camera,
            f"{view.name}_clock_offset_ns": np.array(placed.clock_offset_ns[view.name], dtype=np.int64),
        }
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
