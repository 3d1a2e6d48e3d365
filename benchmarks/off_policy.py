"""Sample efficiency: SAC beside PPO, both this project's, at the same number of environment steps.

    python -m benchmarks.off_policy [--seeds 0 1] [--learners sac ppo] [--tasks HalfCheetah-v5 Reacher-v5]

Both train on the same 8 environments of this project's simulation, with one thread. PPO has the settings of
`benchmarks.rl`: 2048 steps per update, 5 passes of 8 minibatches. SAC has the recipe's, with the tasks' discount, a
batch of 256, half a gradient step per environment step, and the entropy target of SAC as published, -1 per action.
Every 2048 environment steps the action without noise is judged in environments of its own; a training's return is the
median of its last four judgements. PPO goes on for eight times as many steps, to see when it comes to SAC's return.

A finished training is kept in --work, so that several calls share the work; the figures are those of all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.rl_learners import EPOCHS, GAMMA, GRAD_NORM, LAM, LAYERS, LR, MINIBATCHES, STD
from bodydouble.artifacts import read_json, write_json
from bodydouble.report.figures import merge_figures
from policy.nets.actor_critic import NetConfig
from policy.nets.policy_net import MeanPolicy, PolicyNet
from policy.nets.soft import SoftNetConfig
from policy.optim.registry import AdamConfig
from policy.rl.gym_task import GymTask
from policy.rl.off_policy import OffPolicyRunner, make_soft_net
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Runner, make_net
from policy.rl.sac import SAC, SACConfig
from policy.rl.training import Progress, Training
from sim.env.gymnasium_task import GymnasiumTask
from sim.env.half_cheetah_env import HalfCheetahVectorEnv
from sim.env.reacher_env import ReacherVectorEnv

TASKS: dict[str, tuple[Callable[..., GymnasiumTask], int]] = {
    "HalfCheetah-v5": (HalfCheetahVectorEnv, 32_768),
    "Reacher-v5": (ReacherVectorEnv, 16_384),
}
"""The task and the environment steps of SAC's training."""
LONGER = 8
"""How many times as long PPO trains."""
LAST = 4
"""Judgements whose median is a training's return."""
ENVS = 8
JUDGE_EVERY = 2_048
"""Environment steps between judgements; one update of PPO."""
JUDGED = {"HalfCheetah-v5": 8, "Reacher-v5": 128}
"""Episodes of each judgement."""
RESULTS = Path(__file__).parent / "results" / "rl.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "bench_off_policy.png"


def make_training(learner: str, task: str, seed: int) -> Training:
    """Return a fresh training."""
    torch.manual_seed(seed)
    env = GymTask(TASKS[task][0](ENVS, threads=1), seed, GAMMA, ENVS)
    first = env.reset()
    device = torch.device("cpu")
    if learner == "ppo":
        ppo = PPOConfig(
            steps=JUDGE_EVERY // ENVS, epochs=EPOCHS, minibatches=MINIBATCHES, gamma=GAMMA, lam=LAM, entropy_weight=0.0,
            max_grad_norm=GRAD_NORM, target_kl=0.0, optimizer=AdamConfig(lr=LR),
        )  # fmt: skip
        return Runner(env, PPO(make_net(first, env.action_size, NetConfig(LAYERS, LAYERS, STD), device), ppo), device)
    config = SACConfig(
        steps=JUDGE_EVERY // ENVS, gradient_steps=ENVS // 2, batch=256, buffer=TASKS[task][1] // ENVS, gamma=GAMMA,
        target_entropy=-1.0, net=SoftNetConfig(actor_layers=LAYERS, critic_layers=LAYERS),
    )  # fmt: skip
    net = make_soft_net(first, (1.0,) * env.action_size, config.net, device)
    return OffPolicyRunner(env, SAC(net, config), device)


@torch.no_grad()
def judge(net: PolicyNet, task: str) -> float:
    """Return the mean return of episodes of the action without noise, the same starts each time."""
    env = TASKS[task][0](JUDGED[task], threads=1)
    policy = MeanPolicy(net)
    obs, _ = env.reset(seed=12345)
    total = np.zeros(JUDGED[task])
    for _ in range(env.episode_steps):
        action = policy(torch.as_tensor(np.asarray(obs, np.float32))).numpy()
        obs, reward, *_ = env.step(np.clip(action, -1.0, 1.0))
        total += reward
    return float(total.mean())


def train(learner: str, task: str, seed: int) -> dict[str, Any]:
    """Train once; return the curve of environment steps, seconds of training and return."""
    training = make_training(learner, task, seed)
    net = training.learner.net
    curve = [[0, 0.0, judge(net, task)]]
    begun, judging = time.monotonic(), 0.0

    def on_update(progress: Progress) -> None:
        nonlocal judging
        if progress.env_steps - curve[-1][0] < JUDGE_EVERY:
            return
        started = time.monotonic()
        curve.append([progress.env_steps, started - begun - judging, judge(net, task)])
        judging += time.monotonic() - started
        print(f"{task} {learner} seed {seed}: {curve[-1]}", flush=True)

    steps = TASKS[task][1] * (LONGER if learner == "ppo" else 1)
    training.train(lambda progress: progress.env_steps >= steps, on_update)
    return {"curve": [[n, round(s, 3), round(r, 3)] for n, s, r in curve]}


def at(curve: list[list[float]], steps: int) -> float:
    """Return the return after a number of environment steps."""
    return float(np.median([value for count, _, value in curve if count <= steps][-LAST:]))


def steps_to(curve: list[list[float]], target: float) -> float:
    """Return the environment steps after which a return was first kept, as `at` counts; all where it never was."""
    return next((row[0] for row in curve if at(curve, int(row[0])) >= target), curve[-1][0])


def summary(runs: dict[tuple[str, str], list[list[list[float]]]], tasks: list[str]) -> dict[str, float]:
    """Return the figures of all finished trainings, medians of the seeds."""
    figures: dict[str, float] = {}
    for task in tasks:
        steps = TASKS[task][1]
        for name in ("sac", "ppo"):
            found = [at(curve, steps) for curve in runs[task, name]]
            figures[f"{name}_return_{task}"] = float(np.median(found))
        reached = [steps_to(curve, figures[f"sac_return_{task}"]) for curve in runs[task, "ppo"]]
        figures[f"ppo_env_steps_over_sac_{task}"] = float(np.median(reached)) / steps
        figures[f"ppo_longer_return_{task}"] = float(
            np.median([at(curve, LONGER * steps) for curve in runs[task, "ppo"]])
        )
    return figures


def draw(runs: dict[tuple[str, str], list[list[list[float]]]], tasks: list[str]) -> None:
    """Draw the returns over environment steps."""
    figure, axes = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 3.6), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for name, color in (("sac", "#3b7dd8"), ("ppo", "#d8863b")):
            for index, curve in enumerate(runs[task, name]):
                steps, _, returns = np.array(curve).T
                axis.plot(steps / 1e3, returns, color=color, linewidth=1.2, label=name.upper() if index == 0 else None)
        axis.axvline(TASKS[task][1] / 1e3, color="#999", linewidth=0.8, linestyle=":")
        axis.set_xscale("symlog", linthresh=2.0)
        axis.set_title(task)
        axis.set_xlabel("environment steps, thousands")
    axes[0, 0].set_ylabel("return of the action without noise")
    axes[0, 0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--learners", nargs="+", choices=("sac", "ppo"), default=["sac", "ppo"])
    parser.add_argument("--work", type=Path, default=Path("runs/bench/off_policy"), help="finished runs are kept here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = partial("{}_{}_{}.json".format)
    options.work.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        for learner in options.learners:
            for seed in options.seeds:
                file = options.work / path(task, learner, seed)
                if not file.exists():
                    write_json(file, train(learner, task, seed))
    runs = {
        (task, learner): [read_json(file)["curve"] for file in sorted(options.work.glob(path(task, learner, "*")))]
        for task in options.tasks
        for learner in ("sac", "ppo")
    }
    missing = [" ".join(key) for key, curves in runs.items() if not curves]
    if missing:
        print(f"still to train: {', '.join(missing)}")
        return
    figures = summary(runs, options.tasks)
    print({name: round(value, 3) for name, value in figures.items()})
    merge_figures(
        RESULTS, "off_policy", "python -m benchmarks.off_policy", figures, seeds=options.seeds,
        env_steps={task: TASKS[task][1] for task in options.tasks}, envs=ENVS,
    )  # fmt: skip
    draw(runs, options.tasks)


if __name__ == "__main__":
    main()
