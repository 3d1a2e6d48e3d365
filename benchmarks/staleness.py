"""How old experience may be: return after a fixed number of gradient steps, each rollout cut into N of them.

    python -m benchmarks.staleness [--seeds 0 1 2] [--lr 0.001] [--staleness 1 4 16 64] [--gradient-steps 768]

With N gradient steps on one rollout the last of them learns from actions that are N - 1 steps old. The task is
Reacher-v5 (episodes of 50 steps, so that whole episodes are sequences); batches of 32 episodes, one pass, Adam without
steering, advantages are the normalised returns of whole episodes (VESPO, arXiv 2602.10693, section 5, with its
objectives; the paper's own task are language models). A return is the mean of the last 512 episodes' returns; its
share is that of the way from the untrained policy's return to the best return in the table, zero where the return is
below the untrained policy's. The figures are the shares at N = 64 in units of those at N = 4, zero where none is left.

At N = 1 every ratio is one, so that all objectives have the same gradient: it is trained once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from bodydouble.artifacts import read_json, write_json
from bodydouble.report.figures import merge_figures
from policy.nets.actor_critic import NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.gym_task import GymTask
from policy.rl.objectives.clip import GRPO, GSPO, PPOClip
from policy.rl.objectives.plain import PolicyGradient
from policy.rl.objectives.samples import Objective
from policy.rl.objectives.smooth import SAPO
from policy.rl.objectives.vespo import VESPO
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Progress, Runner, make_net
from sim.env.reacher_env import ReacherVectorEnv

OBJECTIVES: dict[str, Objective] = {
    "none": PolicyGradient(),
    "importance": PolicyGradient(importance=True),
    "ppo": PPOClip(),
    "grpo": GRPO(),
    "gspo": GSPO(),
    "sapo": SAPO(),
    "vespo_sequence": VESPO(),
    "vespo_step": VESPO(level="step"),
}
STALENESS = (1, 4, 16, 64)
LR = 0.001
"""Of 0.0003, 0.001 and 0.003 the one that learns best at N = 1."""
EPISODES, GRADIENT_STEPS, JUDGED = 32, 768, 512
RESULTS = Path(__file__).parent / "results" / "rl.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "bench_staleness.png"


def train(
    objective: Objective, staleness: int, lr: float, seed: int, gradient_steps: int
) -> tuple[float, float, float]:
    """Return the first and the last mean return and the mean kernel weight of the last quarter (or NaN)."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    task = GymTask(ReacherVectorEnv(EPISODES * staleness, threads=1), seed, window=JUDGED)
    config = PPOConfig(
        steps=ReacherVectorEnv.episode_steps,
        epochs=1,
        minibatches=staleness,
        objective=objective,  # type: ignore[arg-type]
        advantage="group",
        entropy_weight=0.0,
        target_kl=0.0,
        optimizer=AdamConfig(lr=lr),
    )
    net = make_net(task.reset(), task.action_size, NetConfig((64, 64), (64, 64)), torch.device("cpu"))
    runner = Runner(task, PPO(net, config), torch.device("cpu"))
    first: list[float] = []
    weights: list[float] = []

    def note(progress: Progress) -> None:
        if len(task.finished) == JUDGED and not first:
            first.append(task.mean_return)
        if progress.update * staleness > 0.75 * gradient_steps:
            weights.append(progress.stats.get("weight", float("nan")))

    runner.train(lambda p: p.update * staleness >= gradient_steps, note)
    task.finished.clear()
    while len(task.finished) < JUDGED:
        runner.collect()
    return first[0] if first else float("nan"), task.mean_return, float(np.mean(weights))


def untrained(seed: int) -> float:
    """Return the mean return of a policy that has learned nothing."""
    torch.manual_seed(seed)
    task = GymTask(ReacherVectorEnv(JUDGED, threads=1), seed, window=JUDGED)
    net = make_net(task.reset(), task.action_size, NetConfig((64, 64), (64, 64)), torch.device("cpu"))
    Runner(task, PPO(net, PPOConfig(steps=ReacherVectorEnv.episode_steps)), torch.device("cpu")).collect()
    return task.mean_return


def draw(table: dict[str, dict[str, list[float]]], start: float, lr: float, gradient_steps: int) -> None:
    """Draw the returns over the staleness."""
    counts = [int(n) for n in next(iter(table.values()))]
    figure, axis = plt.subplots(figsize=(7.5, 4.2))
    for name, row in table.items():
        returns = np.array([row[str(n)] for n in counts])
        centre = np.median(returns, axis=1)
        spread = np.abs(np.stack([returns.min(axis=1), returns.max(axis=1)]) - centre)
        axis.errorbar(counts, centre, yerr=spread, marker="o", capsize=3, label=name)
    axis.axhline(start, color="#999", linestyle=":", label="untrained")
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.set_xlabel("gradient steps on one rollout")
    axis.set_ylabel("return of Reacher-v5 (median, range)")
    axis.set_ylim(bottom=min(2.5 * start, start - 1))
    axis.set_title(f"{gradient_steps} gradient steps of {EPISODES} episodes, lr {lr:g}")
    axis.legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=LR, help="the default learns best at N = 1")
    parser.add_argument("--staleness", type=int, nargs="+", choices=STALENESS, default=list(STALENESS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--gradient-steps", type=int, default=GRADIENT_STEPS, help="of every training")
    parser.add_argument("--work", type=Path, default=Path("runs/bench/staleness"), help="finished runs are kept here")
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1), metavar=("I", "K"), help="only every K-th run")
    options = parser.parse_args()
    table: dict[str, dict[str, list[float]]] = {
        name: {str(n): [] for n in options.staleness} for name in options.objectives
    }
    weights: dict[str, dict[str, list[float | None]]] = {}
    todo = [(s, n, name) for n in reversed(options.staleness) for s in options.seeds for name in options.objectives]
    shard, shards = options.shard
    todo = todo[shard::shards]
    longer = "" if options.gradient_steps == GRADIENT_STEPS else f"_{options.gradient_steps}"
    begun = time.monotonic()
    for index, (seed, staleness, name) in enumerate(todo):
        trained = name if staleness > 1 else "none"
        kept = options.work / f"{trained}_{staleness}_{options.lr:g}_{seed}{longer}.json"
        if kept.exists():
            found = read_json(kept)
        else:
            _, last, weight = train(OBJECTIVES[trained], staleness, options.lr, seed, options.gradient_steps)
            found = {"return": last, "weight": None if np.isnan(weight) else weight}
            options.work.mkdir(parents=True, exist_ok=True)
            write_json(kept, found)
        table[name][str(staleness)].append(float(found["return"]))
        weights.setdefault(name, {}).setdefault(str(staleness), []).append(found["weight"])
        left = (time.monotonic() - begun) / (index + 1) * (len(todo) - index - 1)
        print(
            f"{index + 1}/{len(todo)} {name} N={staleness} seed {seed}: {found['return']:.2f}, {left:.0f} s left",
            flush=True,
        )
    if shards > 1:
        return  # a last call without --shard gathers all runs
    start = float(np.mean([untrained(seed) for seed in options.seeds]))
    best = max(float(np.median(values)) for row in table.values() for values in row.values())
    share = {
        name: {n: max(0.0, (float(np.median(values)) - start) / (best - start)) for n, values in row.items()}
        for name, row in table.items()
    }
    ratio = {name: row["64"] / row["4"] if row["64"] > 0 else 0.0 for name, row in share.items()}
    figures = {f"{name if name != 'none' else 'uncorrected'}_n64_over_n4": value for name, value in ratio.items()}
    figures["vespo_n64_over_n4"] = max(ratio["vespo_sequence"], ratio["vespo_step"])
    setting = f"lr_{options.lr:g}" + longer
    if setting != f"lr_{LR:g}":
        figures = {f"{name}_{setting}": value for name, value in figures.items()}
    merge_figures(
        RESULTS,
        f"staleness_{setting}",
        f"python -m benchmarks.staleness --seeds {' '.join(map(str, options.seeds))} --lr {options.lr:g} "
        f"--gradient-steps {options.gradient_steps} --staleness "
        f"{' '.join(map(str, options.staleness))} --objectives {' '.join(options.objectives)}",
        figures,
        seeds=options.seeds,
        untrained_return=start,
        returns=table,
        share_of_the_way=share,
        kernel_weight=weights,
    )
    if setting == f"lr_{LR:g}":
        draw(table, start, options.lr, options.gradient_steps)
    for name, value in ratio.items():
        print(f"{name:16s} N=64 over N=4: {value:.3f}   share of the way {share[name]}")


if __name__ == "__main__":
    main()
