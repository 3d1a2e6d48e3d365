"""Optimizers side by side: updates to a stated return or loss with AdamW, Muon, NAMO and NAMO-D.

    python -m benchmarks.ablation [--seeds 0 1 2 3 4]

Three tasks (`benchmarks.ablation_tasks`): PPO on Reacher-v5, cloning the shipped G1 policy, fitting a body to a short
synthetic clip. Every optimizer gets the same four learning rates of a task (the matrices' steps are scaled to AdamW's,
so that these mean the same), no weight decay, and the same seeds. NAMO-D runs per neuron (rows of a weight).

What is stated: nine tenths of the way that AdamW comes, at the rate at which it ends best, from the first update to the
last (median of the seeds; of a loss, the way of its logarithm). An optimizer's figure is the median of the updates that
its own best rate needs, in units of AdamW's; a training that does not get there counts with all of its updates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.ablation_tasks import cloning, fit, ppo
from bodydouble.artifacts import read_json, write_json
from bodydouble.report.figures import merge_figures
from policy.optim.registry import AdamWConfig, AnyOptimizer, MuonConfig, NamoConfig, NamoDConfig

OPTIMIZERS: dict[str, Callable[[float], AnyOptimizer]] = {
    "adamw": lambda lr: AdamWConfig(lr=lr, weight_decay=0.0),
    "muon": lambda lr: MuonConfig(lr=lr, weight_decay=0.0),
    "namo": lambda lr: NamoConfig(lr=lr, weight_decay=0.0),
    "namo_d": lambda lr: NamoDConfig(lr=lr, weight_decay=0.0, neurons="rows"),
}
TASKS: dict[str, tuple[Callable[[AnyOptimizer, int], list[float]], tuple[float, ...], str]] = {
    "ppo": (ppo, (1e-3, 3e-3, 1e-2, 3e-2), "return of Reacher-v5"),
    "bc": (cloning, (1e-3, 3e-3, 1e-2, 3e-2), "squared error on held-out states"),
    "body_fit": (fit, (1e-2, 3e-2, 1e-1, 3e-1), "loss of the fit"),
}
"""Training, learning rates and what its curve shows. A return rises, a loss falls."""
SMOOTH = {"ppo": 3, "bc": 10, "body_fit": 1}
"""Updates whose mean counts, so that no lucky batch does."""
WAY = 0.9
RESULTS = Path(__file__).parent / "results" / "rl.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "bench_ablation.png"
Curves = dict[str, dict[str, np.ndarray]]
"""Progress (seeds, updates) of one task by optimizer and learning rate: it rises, whatever it is of."""


def run_all(options: argparse.Namespace) -> dict[str, Curves]:
    """Train what is not finished yet; return the progress of all trainings, by task."""
    out: dict[str, Curves] = {}
    grid: list[tuple[str, str, float, int]] = [
        (task, name, lr, seed)
        for task in options.tasks
        for name in OPTIMIZERS
        for lr in TASKS[task][1]
        for seed in options.seeds
    ]
    begun = time.monotonic()
    found: dict[tuple[str, str, float], list[list[float]]] = {}
    for index, (task, name, lr, seed) in enumerate(grid):
        kept = options.work / f"{task}_{name}_{lr:g}_{seed}.json"
        if not kept.exists():
            options.work.mkdir(parents=True, exist_ok=True)
            write_json(kept, {"curve": TASKS[task][0](OPTIMIZERS[name](lr), seed)})
        curve = read_json(kept)["curve"]
        found.setdefault((task, name, lr), []).append(curve)
        left = (time.monotonic() - begun) / (index + 1) * (len(grid) - index - 1)
        print(
            f"{index + 1}/{len(grid)} {task} {name} lr {lr:g} seed {seed}: {curve[-1]:.4g}, {left:.0f} s left",
            flush=True,
        )
    for (task, name, lr), curves in found.items():
        progress = smoothed(np.array(curves), SMOOTH[task])
        out.setdefault(task, {}).setdefault(name, {})[f"{lr:g}"] = progress if task == "ppo" else -np.log(progress)
    return out


def smoothed(curves: np.ndarray, width: int) -> np.ndarray:
    """Return the means (S, U) of the last `width` values of curves (S, U), of fewer at the beginning."""
    sums = np.cumsum(np.pad(curves, ((0, 0), (width, 0))), axis=1)
    count = np.minimum(np.arange(1, curves.shape[1] + 1), width)
    return (sums[:, width:] - sums[:, :-width]) / count


def updates_to(progress: np.ndarray, target: float) -> np.ndarray:
    """Return the updates (S,) after which each training was at the target; all of them where it never was."""
    there = progress >= target
    return np.where(there.any(axis=1), there.argmax(axis=1) + 1, progress.shape[1])


def judge(curves: Curves) -> dict[str, Any]:
    """Return what is stated, and each optimizer's rates, updates and quotient to AdamW's."""
    ends = {lr: float(np.median(p[:, -1])) for lr, p in curves["adamw"].items()}
    best = max(ends, key=lambda lr: ends[lr])
    first = float(np.median(np.concatenate([p[:, 0] for p in curves["adamw"].values()])))
    target = first + WAY * (ends[best] - first)
    rows: dict[str, Any] = {}
    for name, by_rate in curves.items():
        needed = {lr: updates_to(p, target) for lr, p in by_rate.items()}
        chosen = min(needed, key=lambda lr: (float(np.median(needed[lr])), -float(np.median(by_rate[lr][:, -1]))))
        rows[name] = {
            "lr": float(chosen),
            "updates": float(np.median(needed[chosen])),
            "reached": int((by_rate[chosen] >= target).any(axis=1).sum()),
            "updates_by_rate": {lr: sorted(n.tolist()) for lr, n in needed.items()},
            "end_by_rate": {lr: float(np.median(p[:, -1])) for lr, p in by_rate.items()},
        }
    for row in rows.values():
        row["vs_adamw"] = row["updates"] / rows["adamw"]["updates"]
    return {"target": target, "optimizers": rows}


def draw(results: dict[str, Curves], judged: dict[str, Any]) -> None:
    """Draw each optimizer's median curve at its best rate."""
    figure, axes = plt.subplots(1, len(results), figsize=(5 * len(results), 3.8), squeeze=False)
    for axis, (task, curves) in zip(axes[0], results.items(), strict=True):
        shown = (lambda x: x) if task == "ppo" else (lambda x: np.exp(-x))
        for name, by_rate in curves.items():
            lr = judged[task]["optimizers"][name]["lr"]
            progress = by_rate[f"{lr:g}"]
            steps = np.arange(1, progress.shape[1] + 1)
            line = axis.plot(steps, shown(np.median(progress, axis=0)), label=f"{name}, lr {lr:g}")[0]
            low, high = shown(progress.min(axis=0)), shown(progress.max(axis=0))
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.12)
        axis.axhline(shown(judged[task]["target"]), color="#c33", linestyle="--", linewidth=1, label="stated")
        axis.set_title(TASKS[task][2], fontsize=10)
        axis.set_xlabel("updates")
        axis.legend(frameon=False, fontsize=8)
        if task != "ppo":
            axis.set_yscale("log")
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--work", type=Path, default=Path("runs/bench/ablation"), help="finished runs are kept here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = run_all(options)
    if set(options.tasks) != set(TASKS):
        return  # a last call with all tasks gathers them
    judged = {task: judge(curves) for task, curves in results.items()}
    figures: dict[str, float] = {}
    for name in [name for name in OPTIMIZERS if name != "adamw"]:
        ratios = {task: float(found["optimizers"][name]["vs_adamw"]) for task, found in judged.items()}
        figures[f"{name}_vs_adamw_updates"] = float(np.exp(np.mean(np.log(list(ratios.values())))))
        figures |= {f"{name}_vs_adamw_updates_{task}": ratio for task, ratio in ratios.items()}
    merge_figures(
        RESULTS,
        "ablation",
        f"python -m benchmarks.ablation --seeds {' '.join(map(str, options.seeds))}",
        figures,
        seeds=options.seeds,
        tasks=judged,
    )
    draw(results, judged)
    for task, found in judged.items():
        for name, row in found["optimizers"].items():
            print(
                f"{task:9s} {name:7s} lr {row['lr']:g}: {row['updates']:.0f} updates, {row['vs_adamw']:.2f} of AdamW's"
            )


if __name__ == "__main__":
    main()
