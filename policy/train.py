"""Training of a policy on a stage: from the robot's shipped checkpoint, from another one, or from nothing."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.nets.actor_critic import ActorCritic, MeanPolicy, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl import runner as rl
from policy.rl.asynchronous import ActorConfig, AsyncRunner
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.resume import save_training
from policy.rl.tensorboard import Curves
from policy.threads import use_threads
from policy.training_run import (
    CHECKPOINT_FILE,
    CURVES_FOLDER,
    LOG_FILE,
    MANIFEST_FILE,
    TRAINING_FILE,
    go_on,
    run_updates,
    unfinished,
)
from sim.backend.cpu_batch import CpuBatch
from sim.env.evaluate import Evaluation, evaluate
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a policy is trained on a stage."""

    warm_start: str = "shipped"
    """Where to start: "shipped" (the checkpoint that comes with bodydouble for the robot), "general" (the one for
    walking, seats and platforms), "none", or a file."""
    updates: int = 12
    """Updates of PPO; each collects `ppo.steps` control steps of every environment."""
    envs: int = 256
    """Environments."""
    threads: int = 0
    """Threads of the simulation and of torch, which take turns; 0 takes every core."""
    actors: int = 0
    """Processes that step `envs / actors` environments each while this one learns from what they brought before:
    faster, but the curve is another one every time. 0 steps and learns in turn."""
    seed: int = 0
    """Seed."""
    checkpoint_every: int = 10
    """Updates between checkpoints of the unfinished training, from which the same command goes on; 0 makes none."""
    tensorboard: bool = False
    """Whether to write curves for TensorBoard, into the folder "tensorboard" of the output."""
    eval_envs: int = 32
    """Episodes of each evaluation, with the task's randomisation."""
    net: NetConfig = field(default_factory=NetConfig)
    """Sizes of the networks; only for a training from nothing."""
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(target_kl=0.005, optimizer=AdamConfig(lr=3e-5)))
    """PPO; the defaults fine-tune."""
    task: TrackingConfig = field(default_factory=TrackingConfig)
    """The task."""


@dataclass(frozen=True)
class Trained:
    """A trained policy's folder and figures."""

    path: Path
    """The folder."""
    figures: dict[str, float]
    """Figures of policy.json."""
    kept: str
    """Which network was kept: "trained" or "start"."""

    def __str__(self) -> str:
        """One line with the outcome."""
        f = self.figures
        return (
            f"{self.path}: {f['env_steps']:.0f} env steps at {f['env_steps_per_s']:.0f}/s; success "
            f"{f['start_success_rate']:.2f} -> {f['trained_success_rate']:.2f}, body error "
            f"{1000 * f['start_body_error_m']:.0f} -> {1000 * f['trained_body_error_m']:.0f} mm; "
            f"kept the {self.kept} one"
        )


def shipped_checkpoint(robot: str, kind: str = "tracking") -> Path:
    """Return a checkpoint that comes with bodydouble for a robot: "tracking", or "general", which follows more kinds.

    Raises:
        InputError: There is none.
    """
    path = Path(__file__).parent / "checkpoints" / f"{robot}_{kind}.safetensors"
    if not path.is_file():
        raise InputError(f"no checkpoint is shipped for robot {robot}; train with --config.warm-start none")
    return path


def train(stage_path: Path, out: Path, config: TrainConfig | None = None) -> Trained:
    """Train on a stage and write the policy; a training already made from the same inputs is left as it is.

    One that was interrupted goes on from its last checkpoint, exactly: the same log and the same policy come out.

    The network at the start and the trained one are both judged on the stage's reference, under the task's
    randomisation, with the same seeds; the better one is kept and the manifest says which.

    Args:
        stage_path: The stage's folder.
        out: Folder for policy.safetensors, policy.json and log.jsonl.
        config: Settings.

    Raises:
        InputError: The stage or the checkpoint cannot be used.
        TrainingError: The losses diverged, or a checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    config = config or TrainConfig()
    _check_config(config)
    stage = Stage.load(stage_path)
    robot = TrackedRobot.from_spec(stage.robot)
    start = None if config.warm_start == "none" else _start_path(config.warm_start, robot.name)
    inputs = {"stage": stage.path} | ({"start": start} if start else {})
    key = inputs_hash(config, inputs)
    if is_current(out / MANIFEST_FILE, key):
        manifest = read_json(out / MANIFEST_FILE)
        return Trained(out, manifest["figures"], manifest["kept"])
    threads = use_threads(config.threads)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    env = _tracking_env(stage, config, 1 if config.actors else config.envs, config.seed, threads, out / "nan_state.npz")
    net, before = _start_net(start, env, robot, config)
    started = _judge(stage, robot, net, config)
    ppo = PPO(net, config.ppo)
    work = unfinished(out)
    with atomic_dir(out) as folder, contextlib.ExitStack() as stack:
        initial = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        if config.actors:
            torch.set_num_threads(max(1, threads - config.actors))
            processes = ActorConfig(config.actors, seed=config.seed)
            make_task = partial(_actor_task, stage.path, config, out)
            runner: rl.Runner = stack.enter_context(AsyncRunner(make_task, ppo, torch.device("cpu"), processes))
        else:
            runner = rl.Runner(env, ppo, torch.device("cpu"))
        begun_at = go_on(runner, work, key)

        def info(env_steps: int, updates: int, extra: dict[str, Any]) -> CheckpointInfo:
            return CheckpointInfo(
                robot=robot.name,
                joint_names=robot.joint_names,
                policy_size=env.spec.size,
                critic_size=net.critic_norm.mean.shape[0],
                net=net.config,
                env_steps=(before.env_steps if before else 0) + env_steps,
                updates=(before.updates if before else 0) + updates,
                extra=extra,
            )

        def save(progress: rl.Progress) -> None:
            extra = {"inputs": key}
            save_training(work / TRAINING_FILE, runner, info(progress.env_steps, progress.update, extra))

        with Curves(work / CURVES_FOLDER, config.tensorboard, begun_at) as curves:
            last = run_updates(
                runner, config.updates, work / LOG_FILE, out / "nan_rollout.safetensors", curves,
                config.checkpoint_every, save,
            )  # fmt: skip
        trained = _judge(stage, robot, net, config)
        better = (trained.success_rate, -trained.mean_body_error_m) > (started.success_rate, -started.mean_body_error_m)
        if not better:
            net.load_state_dict(initial)
        figures = {
            "env_steps": float(last.env_steps),
            "env_steps_per_s": last.env_steps / last.seconds,
            "train_s": last.seconds,
            "start_success_rate": started.success_rate,
            "start_body_error_m": started.mean_body_error_m,
            "trained_success_rate": trained.success_rate,
            "trained_body_error_m": trained.mean_body_error_m,
        }
        extra = {"lr": ppo.lr, "stage": stage.sha256}
        final = info(last.env_steps, last.update, extra) if better else info(0, 0, extra)
        save_checkpoint(folder / CHECKPOINT_FILE, net, final)
        shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
        if config.tensorboard:
            shutil.copytree(work / CURVES_FOLDER, folder / CURVES_FOLDER)
        kept = "trained" if better else "start"
        manifest: dict[str, Any] = {
            "provenance": provenance(config, inputs),
            "figures": figures,
            "kept": kept,
            "warm_start": start.name if start else None,
            "robot": robot.name,
            "machine": machine_info(),
            "seeds": [config.seed],
            "resumed_at_update": begun_at,
        }
        write_json(folder / MANIFEST_FILE, manifest)
    shutil.rmtree(work)
    return Trained(out, figures, kept)


def _tracking_env(stage: Stage, config: TrainConfig, envs: int, seed: int, threads: int, dump: Path) -> TrackingEnv:
    backend = CpuBatch(stage.compile(visuals=False), envs, seed, threads)
    robot = TrackedRobot.from_spec(stage.robot)
    return TrackingEnv(backend, robot, stage.motions, config.task, dump=dump, final_policy_obs=False)


def _actor_task(stage_path: Path, config: TrainConfig, out: Path, index: int) -> TrackingEnv:
    """Return the environments of an actor's process, which has one thread and seeds of its own."""
    dump = out / f"nan_state_{index}.npz"
    seed = config.seed + 1_000_003 * index
    return _tracking_env(Stage.load(stage_path), config, config.envs // config.actors, seed, 1, dump)


def _check_config(config: TrainConfig) -> None:
    for name in ("updates", "envs", "eval_envs"):
        if getattr(config, name) < 1:
            raise InputError(f"config.{name} is {getattr(config, name)}, expected at least 1")
    if config.checkpoint_every < 0:
        raise InputError(f"config.checkpoint_every is {config.checkpoint_every}, expected 0 or more")
    if config.actors < 0 or (config.actors and config.envs % config.actors):
        raise InputError(f"config.actors is {config.actors}, expected 0 or a number that divides envs {config.envs}")
    if config.ppo.steps * config.envs < config.ppo.minibatches:
        raise InputError("config.envs times config.ppo.steps is less than config.ppo.minibatches; take more envs")


def _start_path(warm_start: str, robot: str) -> Path:
    if warm_start in ("shipped", "general"):
        return shipped_checkpoint(robot, "tracking" if warm_start == "shipped" else warm_start)
    path = Path(warm_start)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .safetensors file, or --config.warm-start none")
    return path


def _start_net(
    start: Path | None, env: TrackingEnv, robot: TrackedRobot, config: TrainConfig
) -> tuple[ActorCritic, CheckpointInfo | None]:
    if start is None:
        return rl.make_net(env.reset(), len(robot.joint_names), config.net, torch.device("cpu")), None
    net, info, _ = load_checkpoint(start)
    check_fits(start, info, robot.name, robot.joint_names, env.spec.size)
    return net, info


def check_fits(path: Path, info: CheckpointInfo, robot: str, joint_names: tuple[str, ...], obs_size: int) -> None:
    """Raise InputError where a checkpoint is for another robot, other joints or another observation."""
    if info.robot != robot:
        raise InputError(f"{path}: is a policy for robot {info.robot}, the stage is for {robot}; build a stage for it")
    if info.joint_names != joint_names:
        raise InputError(f"{path}: names other joints, or another order, than robot {robot}; train again")
    if info.policy_size != obs_size:
        raise InputError(
            f"{path}: reads {info.policy_size} observation values, this version gives {obs_size}; train again"
        )


@torch.no_grad()
def _judge(stage: Stage, robot: TrackedRobot, net: ActorCritic, config: TrainConfig) -> Evaluation:
    seconds = max(motion.duration_s for motion in stage.motions) + 1.0
    task = TrackingConfig(
        control_hz=stage.control_hz, episode_s=seconds, end_hold_s=0.5, reset=ResetConfig.exact(),
        termination=config.task.termination, randomisation=RandomisationConfig(),
    )  # fmt: skip
    backend = CpuBatch(stage.compile(visuals=False), config.eval_envs, config.seed + 1, use_threads(config.threads))
    env = TrackingEnv(backend, robot, stage.motions, task)

    policy = MeanPolicy(net)

    def act(obs: np.ndarray) -> np.ndarray:
        return policy(torch.as_tensor(obs)).numpy()

    return evaluate(env, act, round(seconds * stage.control_hz) + 1)
