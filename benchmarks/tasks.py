"""Tasks without a stage: speed of their environments on one thread, and what trainings of them came to.

    python -m benchmarks.tasks speed [--envs 128] [--rounds 5]
    python -m benchmarks.tasks learning FOLDER...

`speed` measures control steps per second of CPU time, and the share of it that is physics; the median of the rounds.
`learning` takes folders that `bodydouble train --task` wrote, with their curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import read_json
from bodydouble.report.figures import merge_figures
from sim.backend.cpu_batch import CpuBatch
from sim.env.task_env import TaskEnv
from sim.tasks.registry import make_task

RESULTS = Path(__file__).parent / "results" / "tasks.json"
CASES = (
    ("velocity", "unitree_go1"), ("velocity", "unitree_g1"), ("reach", "i2rt_yam"), ("reach", "ur5e_2f85"),
    ("pick", "i2rt_yam"), ("pick", "ur5e_2f85"),
)  # fmt: skip
STEPS, WARM_UP, SEED, CURVE_POINTS = 20, 5, 0, 25


class Timed(CpuBatch):
    """Simulations that add up the CPU time of their physics."""

    physics_s = 0.0

    def step(self, ctrl: np.ndarray, previous_ctrl: np.ndarray, delay: np.ndarray, num_substeps: int) -> None:
        begun = time.process_time()
        super().step(ctrl, previous_ctrl, delay, num_substeps)
        self.physics_s += time.process_time() - begun


def speed(envs: int, rounds: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, robot in CASES:
        task = make_task(name, robot)
        backend = Timed(task.model, envs, SEED, threads=1)
        env = TaskEnv(backend, task, final_policy_obs=False, spread=True)
        env.reset()
        rng = np.random.default_rng(SEED)
        rates, shares = [], []
        for turn in range(rounds + 1):
            begun, backend.physics_s = time.process_time(), 0.0
            for _ in range(STEPS if turn else WARM_UP):
                env.step(rng.normal(0.0, 0.3, (envs, env.num_joints)).astype(np.float32))
            spent = time.process_time() - begun
            if turn:
                rates.append(envs * STEPS / spent)
                shares.append(backend.physics_s / spent)
        case = f"{name}_{robot}"
        figures[f"{case}_steps_per_cpu_s"] = round(statistics.median(rates))
        figures[f"{case}_physics_share"] = round(statistics.median(shares), 3)
        print(f"{case:<24} {figures[f'{case}_steps_per_cpu_s']:>7}/s, physics {figures[f'{case}_physics_share']:.2f}")
    return figures


def learning(folders: list[Path]) -> tuple[dict[str, float], dict[str, Any]]:
    figures: dict[str, float] = {}
    curves: dict[str, Any] = {}
    for folder in folders:
        manifest = read_json(folder / "policy.json")
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        hz = manifest["setup"]["control_hz"]
        case = f"{folder.name}_{manifest['task']}_{manifest['robot']}"
        keep = ("env_steps", "train_s", "start_success_rate", "trained_success_rate", "start_total_reward")
        names = (*keep, "trained_total_reward", *(n for n in manifest["figures"] if n.startswith("trained_last_")))
        figures |= {f"{case}_{name}": round(manifest["figures"][name], 4) for name in names}
        every = max(1, len(lines) // CURVE_POINTS)
        curve = [
            {"env_steps": line["env_steps"], "reward_per_s": round(hz * line["reward"], 3)} for line in lines[::every]
        ]
        command = [part for part in manifest["provenance"]["command"] if not part.startswith("/")]
        curves[case] = {"command": command, "curve": curve}
        print(case, {name: figures[f"{case}_{name}"] for name in names})
    return figures, curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    timing = kinds.add_parser("speed")
    timing.add_argument("--envs", type=int, default=128)
    timing.add_argument("--rounds", type=int, default=5)
    trained = kinds.add_parser("learning")
    trained.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    if args.kind == "speed":
        figures = speed(args.envs, args.rounds)
        command = f"python -m benchmarks.tasks speed --envs {args.envs} --rounds {args.rounds}"
        merge_figures(RESULTS, "speed", command, figures, seeds=[SEED])
    else:
        figures, curves = learning(args.folders)
        merge_figures(RESULTS, "learning", "python -m benchmarks.tasks learning FOLDER...", figures, curves=curves)


if __name__ == "__main__":
    main()
