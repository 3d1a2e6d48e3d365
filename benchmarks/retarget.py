"""Retargeting figures on all recorded motions: people retargeted to the G1, G1 motions of others refined, arms.

    OMP_NUM_THREADS=1 python -m benchmarks.retarget [--data ../shared/data]

Speed is the motion's length over the CPU time of the process, all of its threads. Writes results/retarget.json, the
flat figures into results/sim.json and a picture.
"""

from __future__ import annotations

import argparse
import os
import traceback
from pathlib import Path

import numpy as np

from bodydouble.artifacts import machine_info, read_json, versions, write_json
from bodydouble.report.figures import merge_figures
from bodydouble.report.motion_plot import motions_plot
from sim.retarget.config import RetargetConfig
from sim.retarget.feasibility import check_feasibility
from sim.retarget.metrics import motion_metrics
from sim.retarget.pipeline import follow
from sim.retarget.sources import load_source
from sim.robots import robot_spec

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "bench_retarget.png"
FOLDERS = {
    "cmu": ("motion_cmu_bvh/bvh_data", "*.bvh"),
    "lafan1": ("motion_lafan1_g1", "*.csv"),
    "climb": ("motion_holosoma/climb", "*/*.npy"),
    "holosoma": ("motion_holosoma/g1_29dof", "*.npz"),
    "utd": ("person_depth_utd_mhad/Skeleton", "*.mat"),
    "bag": ("ros2_skeleton_bags/rosbags", "*/*.db3"),
}
"""Kinds of motions: their folder and files."""
ARMS = ("i2rt_yam", "ur5e_2f85")
SHOWN = {
    "realtime_factor": ("x real time on one core (asked 10)", 10.0),
    "foot_skate_cm_s": ("foot skate in contact, cm/s (1)", 1.0),
    "penetration_mm": ("penetration, mm (5)", 5.0),
    "contact_agreement": ("contact agreement", 1.0),
    "feasible_share": ("seconds that can be done", 1.0),
}
"""Figures of the picture."""


def measure(path: Path, robot_name: str) -> dict[str, float]:
    robot = robot_spec(robot_name)
    source = load_source(path, robot)
    result = follow(source, robot, RetargetConfig())
    figures = result.figures | check_feasibility(result.motion, robot, result.scene).figures()
    if source.robot is not None:
        before = motion_metrics(source.robot, robot)
        kept = ("foot_skate_cm_s", "penetration_mm", "self_contact_mm")
        figures |= {f"{name}_before": before[name] for name in kept}
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data")))
    parser.add_argument("--only", choices=[*FOLDERS, *ARMS], help="measure this kind again, keep the other rows")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    if options.only:
        before = read_json(RESULTS / "retarget.json")["table"]
        table = {name: row for name, row in before.items() if name.split()[0] != options.only}
    crashes: dict[str, str] = {}
    jobs = [
        (f"{kind} {path.stem.split('_joint_positions')[0].removesuffix('_skeleton')}", path, "unitree_g1")
        for kind, (folder, pattern) in FOLDERS.items()
        for path in sorted((options.data / folder).glob(pattern))
    ]
    walk = [(path, name) for _, path, _ in jobs if path.suffix == ".bvh" for name in ARMS]
    jobs += [(f"{name} hand of {path.stem}", path, name) for path, name in walk]
    if options.only:
        jobs = [job for job in jobs if job[0].split()[0] == options.only]
    measure(jobs[0][1], "unitree_g1")  # compiles the robot once, so that no motion's speed counts it
    for name, path, robot in jobs:
        try:
            table[name] = measure(path, robot)
        except Exception as error:  # a benchmark reports what fails and goes on
            crashes[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            continue
        print(name, {key: table[name].get(key) for key in ("limit_violations", "self_contact_mm", *SHOWN)}, flush=True)
    bodies = {name: row for name, row in table.items() if not name.startswith(ARMS)}
    slowest = min(row["realtime_factor"] for row in bodies.values())
    figures = {
        "retarget_x_realtime": slowest,
        "retarget_x_realtime_median": float(np.median([row["realtime_factor"] for row in bodies.values()])),
        "retarget_limit_violations": sum(row["limit_violations"] + row["speed_violations"] for row in table.values()),
        "retarget_foot_skate_cm_s": max(row["foot_skate_cm_s"] for row in bodies.values()),
        "retarget_penetration_mm": max(row["penetration_mm"] for row in table.values()),
        "retarget_penetration_mm_median": float(np.median([row["penetration_mm"] for row in table.values()])),
        "retarget_contact_agreement": min(row["contact_agreement"] for row in bodies.values()),
        "retarget_motions": float(len(table)),
        "retarget_crashes": float(len(crashes)),
    }
    command = "OMP_NUM_THREADS=1 python -m benchmarks.retarget"
    notes = (
        "Each figure is the worst of all motions, medians apart. LAFAN1 and holosoma rows are G1 motions of others, "
        "refined here; *_before is how they came."
    )
    write_json(
        RESULTS / "retarget.json",
        {
            "machine": machine_info(),
            "versions": versions(),
            "seeds": [],
            "command": command,
            "notes": notes,
            "table": table,
            "crashes": crashes,
            "figures": figures,
        },
    )
    merge_figures(RESULTS / "sim.json", "retarget", command, figures, notes=notes)
    PICTURE.write_bytes(motions_plot(bodies, SHOWN))
    print(figures)


if __name__ == "__main__":
    main()
