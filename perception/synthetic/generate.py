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
from bodydouble.motion import HumanMotion
from bodydouble.recording import RecordingWriter
from bodydouble.recording.images import encode_jpeg
from perception.synthetic.acting import DEFAULT_SHAPE, act, whole_body
from perception.synthetic.cameras import hand_held, intrinsics
from perception.synthetic.motions import MotionConfig
from perception.synthetic.noise import add_depth_noise
from perception.synthetic.render import Renderer
from perception.synthetic.room import Mesh, room

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


@dataclass(frozen=True)
class _View:
    """What one camera renders."""

    name: str
    times_ns: np.ndarray
    T_world_camera: np.ndarray
    seed: int
    clock_offset_ns: int


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
    scene = room(rng)
    motion = _cut(act(config.motion, config.shape), config.max_seconds)
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
            frames = _render(config, views, motion, scene.vertices, scene.triangles, scene.colours)
            ahead = {view.name: view.clock_offset_ns for view in views}
            for name, t_ns, pose, jpeg, depth in track(frames, "rendering", total=total):
                stamp = t_ns + ahead[name]
                if config.poses:
                    writer.write_pose(name, pose, stamp)
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


def _in_unit(depth_mm: np.ndarray, units_per_m: float) -> np.ndarray:
    """Return depth (H, W), uint16, in another unit than mm; what does not fit is lost, as in a camera's driver."""
    if units_per_m == 1000.0:
        return depth_mm
    scaled = np.round(depth_mm * (units_per_m / 1000.0))
    return np.where(scaled <= np.iinfo(np.uint16).max, scaled, 0).astype(np.uint16)


def _cut(motion: HumanMotion, seconds: float) -> HumanMotion:
    keep = max(2, int(np.searchsorted(motion.times_ns, seconds * 1e9, side="right")))
    per_frame = ("times_ns", "joint_pos", "joint_quat", "contact", "contact_pos", "pose", "root_pos")
    return dataclasses.replace(motion, **{name: getattr(motion, name)[:keep] for name in per_frame})


def _views(config: SyntheticConfig, motion: HumanMotion, rng: np.random.Generator) -> list[_View]:
    views = []
    for index in range(config.cameras):
        first = motion.times_ns[0] + round(index * config.start_offset_s * 1e9)
        times = first + np.round(np.arange(0, 1e9 * config.max_seconds, 1e9 / config.fps)).astype(np.int64)
        # Exposures are not quite regular.
        times += rng.integers(-1_000_000, 1_000_000, size=len(times))
        times = times[(times >= motion.times_ns[0]) & (times <= motion.times_ns[-1])]
        person = np.stack([np.interp(times, motion.times_ns, motion.root_pos[:, axis]) for axis in range(3)], axis=-1)
        poses = hand_held(rng, times / 1e9, person, CAMERA_ANGLES[index])
        seed = int(rng.integers(2**31))
        kept = _kept(config, index, times, motion)
        offset_ns = round(config.clock_offset_s[index] * 1e9)
        views.append(_View(f"camera_{index + 1}", times[kept], poses[kept], seed, offset_ns))
    return views


def _kept(config: SyntheticConfig, index: int, times_ns: np.ndarray, motion: HumanMotion) -> np.ndarray:
    """Return which frames (T,) of a camera are recorded; the first one always is."""
    # Its own generator, so that a fault changes nothing else in the recording.
    kept = np.random.default_rng([config.seed, 1 + index]).random(len(times_ns)) >= config.dropped
    if index == config.cameras - 1:
        start, end = motion.times_ns[0], motion.times_ns[-1]
        kept &= times_ns <= start + config.fails_at * (end - start)
    kept[0] = True
    return kept


_worker: tuple[Renderer, HumanMotion | None] | None = None


def _start_worker(
    config: SyntheticConfig, motion: HumanMotion, vertices: np.ndarray, triangles: np.ndarray, colours: np.ndarray
) -> None:
    global _worker
    torch.set_num_threads(1)
    body = whole_body()
    rest = body.rest(torch.tensor(config.shape, dtype=body.dtype))
    assert body.faces is not None
    size = (config.width, config.height)
    centred = (rest.vertices - rest.joint_pos[0]).numpy()
    renderer = Renderer(Mesh(vertices, triangles, colours), body.faces, centred, intrinsics(*size), size)
    _worker = (renderer, motion if config.person else None)


def _render_one(task: tuple[str, int, np.ndarray, int]) -> tuple[str, int, np.ndarray, bytes, np.ndarray]:
    assert _worker is not None
    name, t_ns, pose, seed = task
    renderer, motion = _worker
    person = None if motion is None else body_vertices(motion, t_ns)
    colour, depth = renderer.render(pose, person)
    noisy = add_depth_noise(depth, np.random.default_rng([seed, t_ns]))
    return name, t_ns, pose, encode_jpeg(colour, 90), noisy


def body_vertices(motion: HumanMotion, t_ns: int) -> np.ndarray:
    """Return the person's vertices (V, 3), world, m, at a time between two frames of the motion."""
    body = whole_body()
    after = int(np.clip(np.searchsorted(motion.times_ns, t_ns), 1, len(motion.times_ns) - 1))
    before = after - 1
    share = (t_ns - motion.times_ns[before]) / (motion.times_ns[after] - motion.times_ns[before])
    a, b = motion.pose[before], motion.pose[after]
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    pose = torch.from_numpy((1 - share) * a + share * b).to(body.dtype)
    root = torch.from_numpy((1 - share) * motion.root_pos[before] + share * motion.root_pos[after]).to(body.dtype)
    with torch.no_grad():
        state = body.forward(pose[None], root[None], torch.from_numpy(motion.shape).to(body.dtype))
    assert state.vertices is not None
    return state.vertices[0].numpy()


def _render(
    config: SyntheticConfig,
    views: list[_View],
    motion: HumanMotion,
    vertices: np.ndarray,
    triangles: np.ndarray,
    colours: np.ndarray,
) -> Iterator[tuple[str, int, np.ndarray, bytes, np.ndarray]]:
    """Yield every camera's frames in the order of their stamps."""
    tasks = [
        (view.name, int(t), view.T_world_camera[i], view.seed) for view in views for i, t in enumerate(view.times_ns)
    ]
    # A recording is written in the order of its stamps.
    ahead = {view.name: view.clock_offset_ns for view in views}
    tasks.sort(key=lambda task: (task[1] + ahead[task[0]], task[0]))
    arguments = (config, motion, vertices, triangles, colours)
    workers = config.workers or os.cpu_count() or 1
    if workers == 1 or len(tasks) < 8:
        _start_worker(*arguments)
        yield from map(_render_one, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=arguments) as pool:
        yield from pool.map(_render_one, tasks, chunksize=4)


def _write_truth(
    path: Path,
    config: SyntheticConfig,
    motion: HumanMotion,
    views: list[_View],
    vertices: np.ndarray,
    triangles: np.ndarray,
) -> None:
    arrays = {f"human_{f.name}": np.asarray(getattr(motion, f.name)) for f in dataclasses.fields(motion)}
    for view in views:
        arrays[f"{view.name}_times_ns"] = view.times_ns
        arrays[f"{view.name}_T_world_camera"] = view.T_world_camera
        arrays[f"{view.name}_clock_offset_ns"] = np.array(view.clock_offset_ns, dtype=np.int64)
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            scene_vertices=vertices,
            scene_triangles=triangles,
            start_offset_s=np.float64(config.start_offset_s),
            **arrays,  # type: ignore[arg-type]
        )
