"""Synthetic recordings: `recording.mcap` as two cameras would record it, and `truth.npz`."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, provenance, read_json, write_json
from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_from_rotvec, quat_to_matrix
from bodydouble.motion import HumanMotion
from bodydouble.recording import RecordingWriter
from bodydouble.recording.images import encode_jpeg
from perception.synthetic.acting import DEFAULT_SHAPE, act, whole_body
from perception.synthetic.cameras import hand_held, intrinsics
from perception.synthetic.exposure import Actor, Shot, expose, moments
from perception.synthetic.motions import MotionConfig
from perception.synthetic.noise import add_depth_noise
from perception.synthetic.render import Renderer
from perception.synthetic.room import Mesh, RoomConfig, room

CAMERA_ANGLES = (-0.55, 1.05)
"""Directions of the cameras from the middle of the room, rad: about 90 degrees apart."""


@dataclass(frozen=True)
class SyntheticConfig:
    """A synthetic recording."""

    seed: int = 0
    """Seed of room, camera motion and noise."""
    cameras: int = 2
    """Number of cameras, 1 or 2."""
    width: int = 640
    """Image width, pixels."""
    height: int = 480
    """Image height, pixels."""
    fps: float = 30.0
    """Frames per second of each camera."""
    max_seconds: float = 60.0
    """The clip is cut here, s."""
    start_offset_s: float = 0.37
    """How much later the second camera starts, s, up to 0.5."""
    shape: tuple[float, float, float, float, float] = DEFAULT_SHAPE
    """The person's shape: gender, muscle, weight, height, proportions, each in [0, 1]."""
    motion: MotionConfig = field(default_factory=MotionConfig)
    """What the person does."""
    room: RoomConfig = field(default_factory=RoomConfig)
    """Where the furniture stands."""
    workers: int = 0
    """Processes that render; 0 takes the number of cores."""
    person: bool = True
    """Whether there is a person; without one the room is empty."""
    poses: bool = True
    """Whether the cameras' poses are recorded; truth.npz has them in any case."""
    clock_offset_s: tuple[float, float] = (0.0, 0.0)
    """How much the clock of the first and of the second camera is ahead of true time, s, up to 10."""
    dropped: float = 0.0
    """Share of frames that are lost at random, in [0, 0.9]."""
    fails_at: float = 1.0
    """Share of the clip after which the last camera records nothing any more, in (0, 1]."""
    depth_units_per_m: float = 1000.0
    """Unit of the recorded depth; anything but 1000 (millimetres) is a fault that a reader should find."""
    blur_s: float = 0.0
    """How long the shutter is open, s, up to 0.2; what moves meanwhile is blurred."""
    wrong_poses: float = 0.0
    """Share of the recorded poses that are wildly wrong, in [0, 0.5]."""
    away_s: tuple[float, float] = (0.0, 0.0)
    """Time in which the person is out of the room, from and to, s."""
    second_person: MotionConfig = field(default_factory=lambda: MotionConfig(segments=()))
    """What a second person does; nobody without segments. It stands still where its motion ends."""


@dataclass(frozen=True)
class _View:
    """What one camera renders. F frames of S moments."""

    name: str
    times_ns: np.ndarray
    moments_ns: np.ndarray
    T_world_moment: np.ndarray
    recorded: np.ndarray
    seed: int
    clock_offset_ns: int

    @property
    def true_poses(self) -> np.ndarray:
        """Poses (F, 4, 4), camera to world, at the middle of each exposure."""
        return self.T_world_moment[:, self.T_world_moment.shape[1] // 2]


def generate(config: SyntheticConfig, out: Path) -> dict[str, float]:
    """Write a synthetic recording and its truth into a folder.

    Times in truth.npz are true times; a recorded stamp is the true time plus `<camera>_clock_offset_ns`.
    The folder receives recording.mcap, truth.npz (the person, the scene's mesh, the cameras) and recording.json. The
    same configuration gives the same bytes. A folder that already holds this recording is left as it is.

    Args:
        config: What to record.
        out: The folder.

    Returns:
        Figures: frames, clip_s, cameras.

    Raises:
        InputError: The configuration is not possible.
    """
    _check_config(config)
    manifest = out / "recording.json"
    if is_current(manifest, inputs_hash(config, {})):
        return read_json(manifest)["figures"]
    rng = np.random.default_rng(config.seed)
    scene = room(rng, config.room)
    motion = _cut(act(config.motion, config.shape, scene), config.max_seconds)
    if config.cameras > 1 and (motion.times_ns[-1] - motion.times_ns[0]) * 1e-9 <= config.start_offset_s:
        raise InputError(f"the clip ends before the second camera starts, start_offset_s = {config.start_offset_s}")
    views = _views(config, motion, rng)
    with atomic_dir(out) as folder:
        with RecordingWriter(folder / "recording.mcap") as writer:
            writer.write_metadata("synthetic", {"seed": str(config.seed), "depth_unit": "mm", "world": "Z up, metres"})
            K = intrinsics(config.width, config.height)
            for view in views:
                start_ns = int(view.times_ns[0]) + view.clock_offset_ns
                writer.write_camera_info(view.name, K, config.width, config.height, start_ns)
            total = sum(len(view.times_ns) for view in views)
            actors = _actors(config, motion, scene)
            frames = _render(config, views, actors, scene)
            ahead = {view.name: view.clock_offset_ns for view in views}
            poses = {(v.name, int(t)): pose for v in views for t, pose in zip(v.times_ns, v.recorded, strict=True)}
            for name, t_ns, jpeg, depth in track(frames, "rendering", total=total):
                stamp = t_ns + ahead[name]
                if config.poses:
                    writer.write_pose(name, poses[name, t_ns], stamp)
                writer.write_color_encoded(name, jpeg, "jpeg", stamp)
                writer.write_depth(name, _in_unit(depth, config.depth_units_per_m), stamp)
        _write_truth(folder / "truth.npz", config, motion, views, scene.vertices, scene.triangles)
        figures = {"frames": float(total), "clip_s": float(motion.times_ns[-1] / 1e9), "cameras": float(config.cameras)}
        write_json(folder / "recording.json", {"provenance": provenance(config, {}), "figures": figures})
    return figures


def _check_config(config: SyntheticConfig) -> None:
    if config.cameras not in (1, 2):
        raise InputError(f"a synthetic recording has 1 or 2 cameras, not {config.cameras}")
    if not 0 <= config.start_offset_s <= 0.5:
        raise InputError(f"start_offset_s is {config.start_offset_s}, expected 0 to 0.5 s")
    if min(config.width, config.height) < 16 or config.fps <= 0 or config.max_seconds <= 0:
        raise InputError("width and height must be at least 16, fps and max_seconds positive")
    if not all(0 <= offset <= 10 for offset in config.clock_offset_s):
        raise InputError(f"clock_offset_s is {config.clock_offset_s}, expected 0 to 10 s each")
    if not 0 <= config.dropped <= 0.9:
        raise InputError(f"dropped is {config.dropped}, expected 0 to 0.9")
    if not 0 < config.fails_at <= 1:
        raise InputError(f"fails_at is {config.fails_at}, expected above 0, at most 1")
    if not 0 < config.depth_units_per_m <= 100_000:
        raise InputError(f"depth_units_per_m is {config.depth_units_per_m}, expected above 0, at most 100000")
    if not 0 <= config.blur_s <= 0.2:
        raise InputError(f"blur_s is {config.blur_s}, expected 0 to 0.2 s")
    if not 0 <= config.wrong_poses <= 0.5:
        raise InputError(f"wrong_poses is {config.wrong_poses}, expected 0 to 0.5")
    if not 0 <= config.away_s[0] <= config.away_s[1]:
        raise InputError(f"away_s is {config.away_s}, expected two times, the later one second")


def _in_unit(depth_mm: np.ndarray, units_per_m: float) -> np.ndarray:
    """Return depth (H, W), uint16, in another unit than mm; what does not fit is lost, as in a camera's driver."""
    if units_per_m == 1000.0:
        return depth_mm
    scaled = np.round(depth_mm * (units_per_m / 1000.0))
    return np.where(scaled <= np.iinfo(np.uint16).max, scaled, 0).astype(np.uint16)


def _cut(motion: HumanMotion, seconds: float) -> HumanMotion:
    keep = max(2, int(np.searchsorted(motion.times_ns, seconds * 1e9, side="right")))
    per_frame = ("times_ns", "joint_pos", "joint_quat", "contact", "contact_pos", "pose", "root_pos", "seen")
    return dataclasses.replace(motion, **{name: getattr(motion, name)[:keep] for name in per_frame})


def _views(config: SyntheticConfig, motion: HumanMotion, rng: np.random.Generator) -> list[_View]:
    views = []
    for index in range(config.cameras):
        first = motion.times_ns[0] + round(index * config.start_offset_s * 1e9)
        times = first + np.round(np.arange(0, 1e9 * config.max_seconds, 1e9 / config.fps)).astype(np.int64)
        # Exposures are not quite regular.
        times += rng.integers(-1_000_000, 1_000_000, size=len(times))
        times = times[(times >= motion.times_ns[0]) & (times <= motion.times_ns[-1])]
        shutter = times[:, None] + moments(config.blur_s)
        person = np.stack([np.interp(shutter, motion.times_ns, motion.root_pos[:, axis]) for axis in range(3)], axis=-1)
        poses = hand_held(rng, shutter.ravel() / 1e9, person.reshape(-1, 3), CAMERA_ANGLES[index])
        poses = poses.reshape(*shutter.shape, 4, 4)
        seed = int(rng.integers(2**31))
        kept = _kept(config, index, times, motion)
        offset_ns = round(config.clock_offset_s[index] * 1e9)
        recorded = _disturbed(poses[:, poses.shape[1] // 2], config, index)
        name = f"camera_{index + 1}"
        views.append(_View(name, times[kept], shutter[kept], poses[kept], recorded[kept], seed, offset_ns))
    return views


def _disturbed(poses: np.ndarray, config: SyntheticConfig, index: int) -> np.ndarray:
    """Return the poses (F, 4, 4) as they are recorded: some are metres and tens of degrees off."""
    rng = np.random.default_rng([config.seed, 101 + index])
    recorded = poses.copy()
    for frame in np.flatnonzero(rng.random(len(poses)) < config.wrong_poses):
        turn = quat_to_matrix(quat_from_rotvec(rng.uniform(0.5, 1.0) * _direction(rng)))
        recorded[frame] = poses[frame] @ make_se3(turn, rng.uniform(0.5, 1.5) * _direction(rng))
    return recorded


def _direction(rng: np.random.Generator) -> np.ndarray:
    axis = rng.standard_normal(3)
    return axis / np.linalg.norm(axis)


def _actors(config: SyntheticConfig, motion: HumanMotion, scene: Mesh) -> list[Actor]:
    """Return who is in the room."""
    actors = []
    if config.person:
        away = tuple(round(1e9 * s) + int(motion.times_ns[0]) for s in config.away_s)
        actors.append(Actor(motion, (away[0], away[1])))
    if config.second_person.segments:
        actors.append(Actor(act(config.second_person, config.shape, scene)))
    return actors


def _kept(config: SyntheticConfig, index: int, times_ns: np.ndarray, motion: HumanMotion) -> np.ndarray:
    """Return which frames (T,) of a camera are recorded; the first one always is."""
    # Its own generator, so that a fault changes nothing else in the recording.
    kept = np.random.default_rng([config.seed, 1 + index]).random(len(times_ns)) >= config.dropped
    if index == config.cameras - 1:
        start, end = motion.times_ns[0], motion.times_ns[-1]
        kept &= times_ns <= start + config.fails_at * (end - start)
    kept[0] = True
    return kept


_worker: tuple[Renderer, list[Actor]] | None = None


def _start_worker(config: SyntheticConfig, actors: list[Actor], scene: Mesh) -> None:
    global _worker
    torch.set_num_threads(1)
    body = whole_body()
    rest = body.rest(torch.tensor(config.shape, dtype=body.dtype))
    assert body.faces is not None
    size = (config.width, config.height)
    centred = (rest.vertices - rest.joint_pos[0]).numpy()
    _worker = (Renderer(scene, body.faces, centred, intrinsics(*size), size), actors)


def _render_one(shot: Shot) -> tuple[str, int, bytes, np.ndarray]:
    assert _worker is not None
    colour, depth = expose(*_worker, shot)
    noisy = add_depth_noise(depth, np.random.default_rng([shot.seed, shot.t_ns]))
    return shot.camera, shot.t_ns, encode_jpeg(colour, 90), noisy


def _render(
    config: SyntheticConfig, views: list[_View], actors: list[Actor], scene: Mesh
) -> Iterator[tuple[str, int, bytes, np.ndarray]]:
    """Yield every camera's frames in the order of their stamps."""
    shots = [
        Shot(view.name, int(t), view.moments_ns[i], view.T_world_moment[i], view.seed)
        for view in views
        for i, t in enumerate(view.times_ns)
    ]
    # A recording is written in the order of its stamps.
    ahead = {view.name: view.clock_offset_ns for view in views}
    shots.sort(key=lambda shot: (shot.t_ns + ahead[shot.camera], shot.camera))
    workers = config.workers or os.cpu_count() or 1
    if workers == 1 or len(shots) < 8:
        _start_worker(config, actors, scene)
        yield from map(_render_one, shots)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(config, actors, scene)
    ) as pool:
        yield from pool.map(_render_one, shots, chunksize=4)


def _write_truth(
    path: Path,
    config: SyntheticConfig,
    motion: HumanMotion,
    views: list[_View],
    vertices: np.ndarray,
    triangles: np.ndarray,
) -> None:
    seconds = (motion.times_ns - motion.times_ns[0]) * 1e-9
    present = config.person & ((seconds < config.away_s[0]) | (seconds >= config.away_s[1]))
    motion = dataclasses.replace(motion, seen=present)
    arrays = {f"human_{f.name}": np.asarray(getattr(motion, f.name)) for f in dataclasses.fields(motion)}
    for view in views:
        arrays[f"{view.name}_times_ns"] = view.times_ns
        arrays[f"{view.name}_T_world_camera"] = view.true_poses
        arrays[f"{view.name}_clock_offset_ns"] = np.array(view.clock_offset_ns, dtype=np.int64)
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            scene_vertices=vertices,
            scene_triangles=triangles,
            start_offset_s=np.float64(config.start_offset_s),
            poses_recorded=np.bool_(config.poses),
            **arrays,  # type: ignore[arg-type]
        )
