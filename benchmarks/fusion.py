"""Frames per second of static fusion on two cores, beside raw Open3D, on a recording of a still room.

    python -m benchmarks.fusion RECORDING.mcap

Ours and the peer take turns on the same frames, which lie in memory. Every run integrates and extracts the mesh.
The peer is Open3D's VoxelBlockGrid as its documentation uses it: float32 depth in metres, blocks of 16 voxels, every
frame. `scene` is the whole static scene: votes on what moves, fusion, votes on the mesh, pruning. The surface is
compared with the peer's own at each voxel size, both ways, at 5, 2 and 1 cm.
"""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open3d as o3d

from bodydouble.artifacts import machine_info, versions, write_json
from bodydouble.frames import se3_inverse
from perception.free_space import CellSet
from perception.fusion import fuse
from perception.metrics import sample_surface, surface_distance
from perception.scene_frames import Frame, SceneFrames
from perception.static_scene import SceneConfig, reconstruct_scene
from perception.views import load_views

REACH_M, MIN_WEIGHT, SAMPLES = 5.0, 3.0, 200_000
VOXELS_M = (0.01, 0.02)
Surface = tuple[np.ndarray, np.ndarray]


def ours(frames: list[Frame], voxel_m: float) -> Surface:
    """Return vertices and triangles of our fusion of all frames, with nothing to mask."""
    vertices, triangles, _ = fuse(frames, CellSet(np.zeros(0, np.int64), 0.04), voxel_m, REACH_M, MIN_WEIGHT)
    return vertices, triangles


def peer(frames: list[Frame], voxel_m: float) -> Surface:
    """Return vertices and triangles of Open3D's plain fusion of all frames."""
    grid = o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(o3d.core.float32, o3d.core.float32, o3d.core.float32),
        attr_channels=((1), (1), (3)),
        voxel_size=voxel_m,
        block_resolution=16,
        block_count=20_000,
    )
    for frame in frames:
        depth = o3d.t.geometry.Image(o3d.core.Tensor(frame.depth_mm.astype(np.float32) / 1000))
        color = o3d.t.geometry.Image(o3d.core.Tensor(frame.color.astype(np.float32) / 255))
        K = o3d.core.Tensor(frame.K)
        extrinsic = o3d.core.Tensor(se3_inverse(frame.T_world_camera))
        blocks = grid.compute_unique_block_coordinates(depth, K, extrinsic, 1.0, REACH_M, 4.0)
        grid.integrate(blocks, depth, color, K, K, extrinsic, 1.0, REACH_M, 4.0)
    mesh = grid.extract_triangle_mesh(weight_threshold=MIN_WEIGHT)
    vertices, triangles = mesh.vertex.positions.numpy().astype(np.float64), mesh.triangle.indices.numpy()
    return vertices, triangles[np.isfinite(vertices).all(axis=1)[triangles].all(axis=1)].astype(np.int64)


def fscores(found: Surface, reference: Surface) -> dict[str, float]:
    """Return the F-score of one surface against another by distance in cm."""
    one, other = (sample_surface(*surface, SAMPLES) for surface in (found, reference))
    to_reference, to_found = surface_distance(one, *reference), surface_distance(other, *found)
    scores = {}
    for reach in (0.05, 0.02, 0.01):
        precision, recall = float((to_reference <= reach).mean()), float((to_found <= reach).mean())
        scores[f"fscore_{100 * reach:.0f}cm"] = round(2 * precision * recall / (precision + recall), 5)
    return scores


def timed(
    action: Callable[[list[Frame], float], Surface], frames: list[Frame], voxel_m: float
) -> tuple[float, Surface]:
    """Return frames per second of wall time, and the surface."""
    start = time.perf_counter()
    surface = action(frames, voxel_m)
    return len(frames) / (time.perf_counter() - start), surface


def main() -> None:
    """Measure and write benchmarks/results/fusion.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="a recording of a still room, 640x480")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fusion.json")
    options = parser.parse_args()
    views = load_views(options.recording, 0.0)
    frames = list(SceneFrames(views))
    figures: dict[str, float] = {"frames": len(frames), "runs": options.runs, "cores": len(os.sched_getaffinity(0))}
    runs: dict[str, list[float]] = {}
    ours(frames[:10], 0.02), peer(frames[:10], 0.02)  # the first call of each loads libraries
    for voxel_m in VOXELS_M:
        size, surfaces = f"{100 * voxel_m:.0f}cm", {}
        for _ in range(options.runs):
            for name, action in (("ours", ours), ("open3d", peer)):
                speed, surfaces[name] = timed(action, frames, voxel_m)
                runs.setdefault(f"{name}_{size}_fps", []).append(round(speed, 2))
            start = time.perf_counter()
            reconstruct_scene(views, SceneConfig(voxel_m=voxel_m, max_depth_m=REACH_M, min_weight=MIN_WEIGHT))
            runs.setdefault(f"scene_{size}_fps", []).append(round(len(frames) / (time.perf_counter() - start), 2))
        agreement = fscores(surfaces["ours"], surfaces["open3d"])
        figures |= {f"{size}_{name}": value for name, value in agreement.items()}
    figures |= {name: statistics.median(values) for name, values in runs.items()}
    figures["fusion_fps"] = figures["ours_1cm_fps"]
    result = {
        "machine": machine_info(),
        "versions": versions() | {"open3d": o3d.__version__},
        "seeds": [0],
        "command": f"python -m benchmarks.fusion {options.recording.name} --runs {options.runs}",
        "note": "wall time, interleaved; the F-scores are ours against Open3D's surface of all frames",
        "figures": figures,
        "runs": runs,
    }
    write_json(options.out, result)
    print("\n".join(f"{key}: {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
