"""Time to a return with PPO: this project against Stable-Baselines3 and rsl_rl, side by side.

    python -m benchmarks.rl [--seconds 50 120 50] [--lanes 1]

Every library trains the same network with the same batches, learning rate, discount, clip and reward scaling, on
Gymnasium's HalfCheetah-v5, Ant-v5 and Humanoid-v5: 32 environments, 64 steps, 5 passes of 8 minibatches, two threads.
The peers step Gymnasium's own environments, as their users do; a row more gives rsl_rl this project's simulation. On
G1-stand-and-reach (`benchmarks.stand_reach`), which Gymnasium has not, all step this project's simulation. Ours is
measured with an actor in a process of its own (`train --config.actors 1`: the simulation has both cores as far as
the learner's thread leaves them) and in turn (collect, then learn, on both threads). The figures named speedup_vs are
those with an actor, the others are named speedup_in_turn_vs. Runs are interleaved; on a task each has the same
wall-clock.

The stated return of a task is nine tenths of the way that Stable-Baselines3 came in that time (median of the seeds,
from its first value on), so no run of ours sets it. The figure is the quotient of the median times to it; a training
that did not get there counts with its whole time.

With --lanes K that many trainings run at once, each pinned to two cores of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.rl_learners import LEARNERS, TASKS
from bodydouble.artifacts import read_json
from bodydouble.report.figures import merge_figures

THREADS = 2
MODES = {"ours": "speedup_in_turn", "ours_async": "speedup"}
"""How the figures of our two ways of training are named."""
WAY = 0.9
PEERS = ("stable-baselines3", "rsl-rl-lib", "gymnasium", "torch")
RESULTS = Path(__file__).parent / "results" / "rl.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "bench_rl.png"
Runs = dict[tuple[str, str], list[dict[str, Any]]]
"""Trainings by task and learner, one per seed."""


def run_all(options: argparse.Namespace) -> Runs:
    """Train everything that is not finished yet and return all results."""
    seconds = dict(zip(options.tasks, options.seconds, strict=True))
    todo = list(itertools.product(options.seeds, options.tasks, options.learners))
    todo.sort(key=lambda job: -seconds[job[1]])  # the longest first, so that the lanes end together
    lanes: Queue[int] = Queue()
    for lane in range(options.lanes):
        lanes.put(lane)
    begun, finished = time.monotonic(), 0

    def train(seed: int, task: str, learner: str) -> tuple[str, str, dict[str, Any]]:
        nonlocal finished
        out = options.work / f"{task}_{learner}_{seed}.json"
        if not out.exists():
            lane = lanes.get()
            cores = sorted(os.sched_getaffinity(0))[THREADS * lane : THREADS * (lane + 1)]
            command = [sys.executable, "-m", "benchmarks.rl_learners", learner, task, "--seed", str(seed)]
            command += ["--seconds", str(seconds[task]), "--threads", str(THREADS), "--out", str(out)]
            done = subprocess.run(
                ["taskset", "-c", ",".join(map(str, cores)), *command], capture_output=True, text=True, check=False
            )
            lanes.put(lane)
            if done.returncode:
                raise RuntimeError(f"{task} {learner} seed {seed} failed:\n{done.stderr[-2000:]}")
        finished += 1
        left = (time.monotonic() - begun) / finished * (len(todo) - finished)
        result = read_json(out)
        last = result["curve"][-1][2] if result["curve"] else float("nan")
        print(
            f"{finished}/{len(todo)} {task} {learner} seed {seed}: {result['env_steps_per_s']:.0f} env steps/s, "
            f"return {last:.0f}, {left:.0f} s left",
            flush=True,
        )
        return task, learner, result

    with ThreadPoolExecutor(options.lanes) as pool:
        results = list(pool.map(lambda job: train(*job), todo))
    runs: Runs = {}
    for task, learner, result in results:
        runs.setdefault((task, learner), []).append(result)
    return runs


def stated_return(trainings: list[dict[str, Any]]) -> float:
    """Return nine tenths of the way from the first to the last mean return, median of the seeds."""
    first, last = (float(np.median([t["curve"][at][2] for t in trainings])) for at in (0, -1))
    return first + WAY * (last - first)


def time_to(training: dict[str, Any], target: float) -> tuple[float, int, bool]:
    """Return seconds and environment steps until the mean return reached the target, and whether it did."""
    for seconds, env_steps, mean_return in training["curve"]:
        if mean_return >= target:
            return seconds, env_steps, True
    return training["seconds"], training["env_steps"], False


def draw(runs: Runs, targets: dict[str, float]) -> None:
    """Draw the returns over wall-clock."""
    tasks = list(targets)
    figure, axes = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 3.8), squeeze=False)
    colors = dict(zip(LEARNERS, ("#3b7dd8", "#1b3a6b", "#d8863b", "#5a9a5f", "#b0b7c3"), strict=True))
    for axis, task in zip(axes[0], tasks, strict=True):
        for (name, learner), trainings in runs.items():
            if name != task:
                continue
            for index, training in enumerate(trainings):
                seconds, _, returns = np.array(training["curve"]).T
                axis.plot(seconds, returns, color=colors[learner], linewidth=1, label=learner if index == 0 else None)
        axis.axhline(targets[task], color="#c33", linestyle="--", linewidth=1, label="stated return")
        axis.set_title(task)
        axis.set_xlabel("wall-clock, s")
    axes[0, 0].set_ylabel("mean return of the last episodes")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0], help="of every task, or one for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS)[:3])
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--lanes", type=int, default=1, help="trainings at once, two cores each")
    parser.add_argument("--part", default="speed", help="name of the results in the file")
    parser.add_argument("--no-picture", action="store_true", help="leave the picture as it is")
    parser.add_argument("--machine", default="this one", help="where the finished runs of --work were made")
    parser.add_argument("--work", type=Path, default=Path("runs/bench/rl"), help="finished runs are kept here")
    options = parser.parse_args()
    if len(options.seconds) == 1:
        options.seconds *= len(options.tasks)
    if len(options.seconds) != len(options.tasks):
        parser.error(f"{len(options.seconds)} --seconds for {len(options.tasks)} tasks")
    runs = run_all(options)
    targets = {task: stated_return(runs[task, "sb3"]) for task in options.tasks}
    figures: dict[str, float] = {}
    table: dict[str, dict[str, Any]] = {}
    for task in options.tasks:
        rows = {learner: [time_to(t, targets[task]) for t in runs[task, learner]] for learner in options.learners}
        seconds = {learner: float(np.median([row[0] for row in found])) for learner, found in rows.items()}
        for mode, name in MODES.items():
            for peer in options.learners:
                if mode in seconds and not peer.startswith("ours"):
                    figures[f"{name}_vs_{peer}_{task}"] = seconds[peer] / seconds[mode]
        table[task] = {
            learner: {
                "seconds": seconds[learner],
                "env_steps": float(np.median([row[1] for row in found])),
                "reached": sum(row[2] for row in found),
                "env_steps_per_s": float(np.median([t["env_steps_per_s"] for t in runs[task, learner]])),
                "last_returns": [t["curve"][-1][2] for t in runs[task, learner]],
            }
            for learner, found in rows.items()
        }
        table[task]["stated_return"] = targets[task]  # type: ignore[assignment]
        print(task, f"stated return {targets[task]:.0f}", {k: round(v, 1) for k, v in seconds.items()})
    merge_figures(
        RESULTS,
        options.part,
        f"python -m benchmarks.rl --seconds {' '.join(f'{s:g}' for s in options.seconds)} --tasks "
        f"{' '.join(options.tasks)} --learners {' '.join(options.learners)} --lanes {options.lanes}",
        figures,
        mode="speedup_vs: an actor in a process of its own; speedup_in_turn_vs: collecting and learning in turn",
        made_on=options.machine,
        seeds=options.seeds,
        versions_too={name: importlib.metadata.version(name) for name in PEERS},
        table=table,
    )
    if not options.no_picture:
        draw(runs, targets)


if __name__ == "__main__":
    main()
