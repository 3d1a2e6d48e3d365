"""Stages of rooms: what the collision geometry keeps, and whether the G1 stands on each under the shipped policy.

    python -m benchmarks.stages --demo runs/demo/reconstruction --data ../shared/data --work runs/bench_stages \
        --out benchmarks/results/sim.json --picture docs/images/stages_real.png

Rooms: the demo's; the 7-Scenes kitchen, whole and from its first and second half alone, nobody in it; holosoma's three
climbing scenes, boxes of a real motion capture on a floor. Pictures show geometry only: the kitchen's images may not be
redistributed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import trimesh

from bodydouble.artifacts import atomic_file
from bodydouble.report.figures import merge_figures
from perception.importers.sevenscenes import SevenScenesConfig, import_sevenscenes
from perception.reconstruct import reconstruct
from policy.export import export
from policy.shipped import shipped_checkpoint
from robot.policy_file import PolicyFile
from sim.closed_loop import ClosedLoop, RobotModel, body_error, fallen
from sim.stage import Stage, StageConfig, build_stage
from sim.stage.furniture import FurnitureConfig
from sim.stage.stand import StandConfig

KITCHEN = "rgbd_static_7scenes_kitchen/data"
CLIMBS = "motion_holosoma/climb"
KITCHEN_UP = (0.006, -0.892, -0.453)
"""Up in the kitchen's world, from its floor and table."""
STAND_S = 12.0
"""Time the robot has to stand, s; 10 are asked for."""


def kitchen_reconstruction(data: Path, work: Path, name: str, frames: slice) -> Path:
    """Import and reconstruct some of the kitchen's frames; one that the work folder holds is taken as it is."""
    folder = work / name
    if (folder / "reconstruction" / "reconstruction.json").is_file():
        return folder / "reconstruction"
    recording = folder / "recording.mcap"
    if not recording.is_file():
        chosen = folder / "frames"
        chosen.mkdir(parents=True, exist_ok=True)
        source = (data / KITCHEN).resolve()
        numbers = sorted({path.name.split(".")[0] for path in source.glob("frame-*.depth.png")})[frames]
        for path in [source / "camera-intrinsics.txt", *(p for n in numbers for p in source.glob(f"{n}.*"))]:
            if not (chosen / path.name).exists():
                (chosen / path.name).symlink_to(path)
        import_sevenscenes(chosen, recording, SevenScenesConfig(up=KITCHEN_UP))
    reconstruct(recording, folder / "reconstruction")
    return folder / "reconstruction"


def climb_reconstruction(data: Path, work: Path, number: int) -> Path:
    """Write the boxes of a climbing scene on a floor of 6 m as a reconstruction's scene."""
    folder = work / f"climb_{number}" / "reconstruction"
    folder.mkdir(parents=True, exist_ok=True)
    boxes = trimesh.load(data / CLIMBS / f"mocap_climb_seq_{number}" / "multi_boxes.obj", force="mesh")
    floor = trimesh.creation.box((6.0, 6.0, 0.02))
    floor.apply_translation((0.0, 0.0, -0.01))
    floor.update_faces(floor.face_normals[:, 2] > 0.5)
    mesh = trimesh.util.concatenate([boxes.subdivide_to_size(0.05), floor.subdivide_to_size(0.2)])
    mesh.export(folder / "scene.ply")
    return folder


def stand(stage: Stage, policy: Path) -> dict[str, float]:
    """Return how long the robot stood under the policy and the safety layer, and how far it strayed."""
    robot = RobotModel.of(stage)
    loop = ClosedLoop(robot, PolicyFile(policy), stage.reference)
    steps = round(STAND_S * stage.control_hz)
    worst = 0.0
    for step in range(steps):
        result = loop.step()
        worst = max(worst, body_error(robot, loop.data, stage.reference, 0))
        if fallen(loop.data, stage.reference, 0) or result.mode == "stopped":
            return {"stand_s": step / stage.control_hz, "stand_error_mm": 1000.0 * worst}
    return {"stand_s": STAND_S, "stand_error_mm": 1000.0 * worst}


def judge(name: str, reconstruction: Path, work: Path, config: StageConfig) -> tuple[Stage, dict[str, float]]:
    """Build a room's stage, load it in MuJoCo and let the robot stand on it."""
    folder = work / name
    begun = time.perf_counter()
    stage = build_stage(reconstruction, folder / "stage", config)
    seconds = time.perf_counter() - begun
    print(stage)
    policy = export(shipped_checkpoint("unitree_g1"), stage.path, folder / "policy" / "policy.onnx").path
    row = {key: stage.figures[key] for key in _KEPT if key in stage.figures}
    return stage, row | {"build_s": seconds} | stand(stage, policy)


_KEPT = (
    "collision_geoms", "collision_volume_error", "step_error_mm", "step_missed_share", "initial_penetration_mm",
    "steps_per_s", "stand_clearance_m", "movable_objects", "floor_residual_mm",
)  # fmt: skip


def picture(stages: Sequence[Stage], size: tuple[int, int] = (480, 360)) -> np.ndarray:
    """Return each stage as it looks, and below it what can be touched, all without the scene's colours."""
    columns = []
    for stage in stages:
        model = stage.compile()
        for geom in range(model.ngeom):
            name = model.geom(geom).name
            if name.startswith(("scene_", "object_")):
                model.geom_rgba[geom] = [0.72, 0.72, 0.72, 1.0]
            elif name.startswith("furniture"):
                model.geom_rgba[geom] = [0.45, 0.58, 0.8, 1.0]
        data = mujoco.MjData(model)
        reference = stage.reference
        joints = len(stage.robot.joint_names)
        data.qpos[: 7 + joints] = np.concatenate(
            [reference.root_pos[0], reference.root_quat[0], reference.joint_pos[0]]
        )
        mujoco.mj_forward(model, data)
        camera = mujoco.MjvCamera()
        camera.lookat[:] = [*reference.root_pos[0, :2], 0.6]
        yaw = 2 * np.degrees(np.arctan2(reference.root_quat[0, 3], reference.root_quat[0, 0]))
        camera.azimuth, camera.elevation, camera.distance = yaw + 150.0, -28.0, 4.2
        views = []
        with mujoco.Renderer(model, size[1], size[0]) as renderer:
            for hidden in (3, 2):
                option = mujoco.MjvOption()
                option.geomgroup[3] = 1
                option.geomgroup[hidden] = 0
                if hidden == 2:
                    # The robot is drawn by its visual geoms: what is hidden here is the scene's mesh alone.
                    option.geomgroup[2] = 1
                    shown = [g for g in range(model.ngeom) if model.geom(g).name.startswith("scene_")]
                    model.geom_rgba[shown, 3] = 0.0
                renderer.update_scene(data, camera, option)
                views.append(renderer.render().copy())
        columns.append(np.concatenate(views))
    return np.concatenate(columns, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="the demo's reconstruction")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real recordings")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_stages"), help="folder for what is made")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sim.json"), help="results file")
    parser.add_argument("--picture", type=Path, help="picture (.png) to write")
    args = parser.parse_args()
    standing = StageConfig(motion="stand")
    # The halves show less of the floor: the robot has to make do with less room.
    tight = StageConfig(motion="stand", stand=StandConfig(min_clearance_m=0.2))
    rooms: list[tuple[str, Path, StageConfig]] = [("demo", args.demo, StageConfig())]
    for name, frames, config in (
        ("kitchen", slice(None), standing),
        ("kitchen_first", slice(0, 100), tight),
        ("kitchen_second", slice(100, 200), tight),
    ):
        rooms.append((name, kitchen_reconstruction(args.data, args.work, name, frames), config))
    wide = StageConfig(motion="stand", furniture=FurnitureConfig(radius_m=6.0))
    rooms += [(f"climb_{number}", climb_reconstruction(args.data, args.work, number), wide) for number in range(3)]
    stages: dict[str, Stage] = {}
    table: dict[str, Any] = {}
    for name, reconstruction, config in rooms:
        stages[name], table[name] = judge(name, reconstruction, args.work, config)
        print(name, {key: round(value, 3) for key, value in table[name].items()})
    figures = {
        "stand_s_min": min(row["stand_s"] for row in table.values()),
        "initial_penetration_mm_max": max(row["initial_penetration_mm"] for row in table.values()),
        "stages": float(len(table)),
    }
    print(figures)
    merge_figures(
        args.out, "stages", "python -m benchmarks.stages --demo RECONSTRUCTION --data DATA", figures, seeds=[0],
        notes=f"Standing for {STAND_S:g} s under the shipped policy and the safety layer, physics of the stage.",
        table=table,
    )  # fmt: skip
    if args.picture is not None:
        from PIL import Image

        image = picture([stages[name] for name in ("kitchen", "kitchen_second", "climb_0")])
        with atomic_file(args.picture) as temporary:
            Image.fromarray(image).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
