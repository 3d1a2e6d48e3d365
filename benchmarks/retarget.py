"""Retargeting figures on recorded motions: a walk (BVH) retargeted to the G1, and LAFAN1 clips that others retargeted.

python -m benchmarks.retarget --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bodydouble.artifacts import machine_info, versions, write_json
from sim.retarget.bvh import load_bvh
from sim.retarget.config import RetargetConfig
from sim.retarget.lafan1 import load_lafan1
from sim.retarget.metrics import motion_metrics
from sim.retarget.retarget import retarget_clip
from sim.robots import robot_spec

CMU_METRES_PER_UNIT = 0.056
"""Length of a unit of the CMU file, m."""
CLIP_S = 20.0
"""Seconds of each LAFAN1 clip that are judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "retarget.json")
    options = parser.parse_args()
    robot = robot_spec("unitree_g1")
    table: dict[str, dict[str, float]] = {}
    for path in sorted((options.data / "motion_cmu_bvh" / "bvh_data").glob("*.bvh")):
        human = load_bvh(path, metres_per_unit=CMU_METRES_PER_UNIT, skip_frames=1)
        table[path.stem] = retarget_clip(human, robot, RetargetConfig(contact_source="kinematic")).metrics
    ours = dict(table)
    for path in sorted((options.data / "motion_lafan1_g1").glob("*.csv")):
        table[f"lafan1_{path.stem}"] = motion_metrics(load_lafan1(path, robot, end_s=CLIP_S), robot)
    figures = {
        "retarget_x_realtime": min(row["realtime_factor"] for row in ours.values()),
        "retarget_limit_violations": max(row["limit_violations"] for row in ours.values()),
        "retarget_foot_skate_cm_s": max(row["foot_skate_cm_s"] for row in ours.values()),
        "retarget_penetration_mm": max(row["penetration_mm"] for row in ours.values()),
    }
    result = {
        "machine": machine_info(),
        "versions": versions(),
        "seeds": [],
        "command": "python -m benchmarks.retarget",
        "notes": "Figures are of what is retargeted here (the BVH walk); LAFAN1 rows are judged as others made them.",
        "table": {name: {key: round(value, 4) for key, value in row.items()} for name, row in table.items()},
        "figures": figures,
    }
    write_json(options.out, result)
    for name, row in table.items():
        shown = ("limit_violations", "foot_skate_cm_s", "penetration_mm", "zmp_outside_share", "realtime_factor")
        print(name, {key: round(row[key], 3) for key in shown if key in row})


if __name__ == "__main__":
    main()
