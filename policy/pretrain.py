"""Training of a tracking policy on many motions or on a stage, on a GPU with MuJoCo Warp or on the CPU.

    python -m policy.pretrain --model g1.mjb --robot g1.json --motions library.npz --out out/ --minutes 8
    python -m policy.pretrain --stage runs/walk --start FILE --out out/ --minutes 3

With --model it needs no package beyond torch, mujoco, array-api-compat and safetensors (and mujoco_warp on a GPU).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mujoco
import torch

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.nets.actor_critic import ActorCritic, MeanPolicy, NetConfig
from policy.optim.registry import REGISTRY
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.resume import resume_training, save_training
from policy.rl.runner import Progress, Runner, make_net
from sim.backend.protocol import SimBackend
from sim.env.evaluate import evaluate
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig
from sim.tasks.tracking.library import load_library

SAVE_EVERY_S = 60.0
"""Time between checkpoints, s."""
_START_COUNT = 2e7


def main(argv: list[str] | None = None) -> int:
    """Run the pretraining."""
    args = _parse(argv)
    device = torch.device("cuda:0" if args.backend == "warp" else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    model, robot, motions = _what_to_follow(args)
    print(f"{len(motions)} motions, {sum(m.duration_s for m in motions):.0f} s", flush=True)
    backend = _backend(args, model, args.envs)
    config = TrackingConfig(end_hold_s=args.end_hold_s, randomisation=RandomisationConfig(push_speed=args.push_speed))
    task = TrackingEnv(backend, robot, motions, config, dump=out / "nan_state.npz", final_policy_obs=False)
    net = make_net(task.reset(), len(robot.joint_names), NetConfig(memory=args.memory), device)
    begun_at = 0
    if args.start:
        begun_at = _start_from(args.start, net)
    ppo = PPO(net, PPOConfig(optimizer=REGISTRY[args.optimizer](lr=args.lr)))
    runner = Runner(task, ppo, device)
    if args.resume and not resume_training(Path(args.resume), runner):
        print("the simulation's state is not in the checkpoint: episodes begin anew", flush=True)
    before = runner.seconds
    saved = time.monotonic()

    def save(progress: Progress) -> None:
        info = CheckpointInfo(
            robot=robot.name,
            joint_names=robot.joint_names,
            policy_size=net.actor.norm.mean.shape[0],
            critic_size=net.critic_norm.mean.shape[0],
            net=net.config,
            env_steps=begun_at + progress.env_steps,
            updates=progress.update,
            extra={"lr": ppo.lr, "command": " ".join(["policy.pretrain", *(argv or sys.argv[1:])])},
        )
        save_training(out / "full.safetensors", runner, info)
        save_checkpoint(out / "policy.safetensors", net, info)

    def on_update(progress: Progress) -> None:
        nonlocal saved
        if time.monotonic() - saved > SAVE_EVERY_S:
            save(progress)
            saved = time.monotonic()
        if progress.update % 20 == 1:
            text = " ".join(f"{key} {value:.4g}" for key, value in progress.stats.items())
            print(f"{progress.seconds:6.1f} s  {progress.env_steps / 1e6:7.1f} M  {text}", flush=True)

    last = runner.train(
        lambda p: p.seconds - before > 60 * args.minutes, on_update, log=out / "log.jsonl",
        dump=out / "nan_rollout.safetensors",
    )  # fmt: skip
    save(last)
    judged = load_library(Path(args.judge), model) if args.judge else motions
    figures = figures_of(args, model, robot, judged, net)
    print(json.dumps(figures), flush=True)
    (out / "eval.json").write_text(json.dumps({"figures": figures, "config": asdict(config)}))
    return 0


def _what_to_follow(args: argparse.Namespace) -> tuple[mujoco.MjModel, TrackedRobot, list[RobotMotion]]:
    """Return the model, the robot in it and the motions, those of the libraries after the stage's."""
    motions: list[RobotMotion] = []
    if args.stage:
        # Only here are the robots' own files needed.
        from sim.stage.stage import Stage

        stage = Stage.load(Path(args.stage))
        model, robot = stage.compile(visuals=False), TrackedRobot.from_spec(stage.robot)
        motions += stage.motions
    else:
        model, robot = mujoco.MjModel.from_binary_path(args.model), TrackedRobot.load(Path(args.robot))
    return model, robot, motions + [motion for path in args.motions for motion in load_library(Path(path), model)]


def _start_from(path: str, net: ActorCritic) -> int:
    """Load a checkpoint's network; return the environment steps that it has seen.

    Raises:
        InputError: The checkpoint's network is another.
    """
    start, info, _ = load_checkpoint(Path(path))
    sizes = (info.policy_size, info.critic_size, info.net)
    expected = (net.actor.norm.mean.shape[0], net.critic_norm.mean.shape[0], net.config)
    if sizes != expected:
        raise InputError(f"{path}: holds a network of sizes {sizes}, expected {expected}")
    net.load_state_dict(start.state_dict())
    # What it has seen counts no more than a few updates of the new motions.
    for norm in (net.actor.norm, net.critic_norm):
        norm.count.clamp_(max=_START_COUNT)
    return info.env_steps


@torch.no_grad()
def figures_of(
    args: argparse.Namespace, model: mujoco.MjModel, robot: TrackedRobot, motions: list, net: ActorCritic
) -> dict[str, float]:
    """Return how the mean action does from the clips' starts, with and without randomisation."""
    figures: dict[str, float] = {}
    longest = max(m.duration_s for m in motions)
    device = next(net.parameters()).device

    for name, randomisation in (("clean", RandomisationConfig.none()), ("randomised", RandomisationConfig())):
        config = TrackingConfig(
            episode_s=longest + 1.0,
            randomisation=randomisation,
            reset=ResetConfig.exact(),
            end_hold_s=min(0.5, args.end_hold_s),
        )
        envs = min(args.envs, max(256, 4 * len(motions)))
        task = TrackingEnv(_backend(args, model, envs), robot, motions, config)
        policy = MeanPolicy(net)

        def act(obs: Any, policy: MeanPolicy = policy) -> Any:
            action = policy(torch.as_tensor(obs, device=device))
            return action if args.backend == "warp" else action.cpu().numpy()

        result = evaluate(task, act, round((longest + 1.0) * config.control_hz) + 1)
        figures[f"{name}_success"] = result.success_rate
        figures[f"{name}_body_error_m"] = result.mean_body_error_m
    return figures


def _backend(args: argparse.Namespace, model: mujoco.MjModel, envs: int) -> SimBackend:
    if args.backend == "warp":
        from sim.backend.warp import WarpBatch

        return WarpBatch(model, envs, args.seed)
    from sim.backend.cpu_batch import CpuBatch

    return CpuBatch(model, envs, args.seed, args.threads)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="", help="folder of a stage: its model, robot and motions")
    parser.add_argument("--model", default="", help="without a stage: compiled MuJoCo model (.mjb), robot on a floor")
    parser.add_argument("--robot", default="", help="without a stage: the robot's names, limits and scales (.json)")
    parser.add_argument("--motions", default=[], nargs="+", help="libraries of reference motions (.npz)")
    parser.add_argument("--out", required=True, help="folder for checkpoints and log")
    parser.add_argument("--minutes", type=float, default=8.0, help="training time")
    parser.add_argument("--envs", type=int, default=8192, help="environments")
    parser.add_argument("--backend", choices=("warp", "cpu"), default="warp", help="where to simulate")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the simulation")
    parser.add_argument("--seed", type=int, default=0, help="seed")
    parser.add_argument("--optimizer", choices=tuple(REGISTRY), default="adam", help="optimizer")
    parser.add_argument("--memory", type=int, default=0, help="size of the policy's recurrent memory; 0: none")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate")
    parser.add_argument(
        "--push-speed", type=float, default=RandomisationConfig.push_speed, help="largest push, m/s; 0: none"
    )
    parser.add_argument(
        "--end-hold-s", type=float, default=TrackingConfig.end_hold_s, help="time that a clip's last pose is held, s"
    )
    parser.add_argument("--start", default="", help="checkpoint whose network to start from, as at a first update")
    parser.add_argument("--judge", default="", help="library of motions to judge the policy on; none: the training's")
    parser.add_argument("--resume", default="", help="full.safetensors to go on from")
    args = parser.parse_args(argv)
    if not args.stage and not (args.model and args.robot and args.motions):
        parser.error("give --stage, or --model, --robot and --motions")
    return args


if __name__ == "__main__":
    sys.exit(main())
