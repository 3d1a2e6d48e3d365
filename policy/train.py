"""Training of a policy on a stage: from the robot's shipped checkpoint, from another one, or from nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from bodydouble.artifacts import atomic_dir, inputs_hash, machine_info, provenance, write_json
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.cluster import ClusterConfig, cluster
from policy.interface import ENTRY as INTERFACE
from policy.interface import check_interface, interface
from policy.nets.actor_critic import ActorCritic, MeanPolicy, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl import runner as rl
from policy.rl.asynchronous import ActorConfig, AsyncRunner
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.ranks import Ranks
from policy.rl.scenes import SceneRunner
from policy.shipped import shipped_checkpoint
from policy.threads import use_threads
from policy.training_run import (
    CHECKPOINT_FILE,
    MANIFEST_FILE,
    Course,
    finished_training,
    keep_logs,
    rank_file,
    run_course,
    unfinished,
)
from sim.backend.cpu_batch import CpuBatch
from sim.env.evaluate import Evaluation, evaluate
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import RandomisationConfig, ResetConfig, TrackingConfig

SHIPPED = {"shipped": "tracking", "general": "general", "cmu_walk": "cmu_walk"}
"""Kinds of the checkpoints that a training on a stage can start from, by the word that asks for them."""


@dataclass(frozen=True)
class TrainConfig:
    """How a policy is trained on a stage."""

    warm_start: str = "shipped"
    """Where to start: "shipped" (the checkpoint that comes with bodydouble for the robot), "general" (the one for
    walking, seats and platforms), "cmu_walk" (the one for a real person's walk), "none", or a file."""
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
    profile: str | None = None
    """Where the time went, if that was asked for."""

    def __str__(self) -> str:
        """One line with the outcome, after where the time went."""
        f = self.figures
        return (f"{self.profile}\n" if self.profile else "") + (
            f"{self.path}: {f['env_steps']:.0f} env steps at {f['env_steps_per_s']:.0f}/s; success "
            f"{f['start_success_rate']:.2f} -> {f['trained_success_rate']:.2f}, body error "
            f"{1000 * f['start_body_error_m']:.0f} -> {1000 * f['trained_body_error_m']:.0f} mm; "
            f"kept the {self.kept} one"
        )


def train(
    stage_path: Path | Sequence[Path],
    out: Path,
    config: TrainConfig | None = None,
    *,
    ranks: Ranks | None = None,
    profile: bool = False,
    machines: ClusterConfig | None = None,
) -> Trained:
    """Train on a stage and write the policy; a training already made from the same inputs is left as it is.

    With several stages one policy learns in all of them, from Ray's workers: `config.actors` many, one for each stage
    where that is 0.

    One that was interrupted goes on from its last checkpoint, exactly: the same log and the same policy come out.

    The network at the start and the trained one are both judged on the stage's reference, under the task's
    randomisation, with the same seeds; the better one is kept and the manifest says which.

    Args:
        stage_path: The stage's folder, or those of several for the same robot.
        out: Folder for policy.safetensors, policy.json and log.jsonl.
        config: Settings.
        ranks: The processes that train together, each with `config.envs` environments of its own; only this one by
            default. The first one judges and writes.
        profile: Whether to record where the time of a few updates goes, into the folder "profile" of the output.
        machines: Where the workers of several stages run; here by default.

    Raises:
        InputError: A stage or the checkpoint cannot be used.
        TrainingError: The losses diverged, a checkpoint could not be written, or another rank ended.
        PhysicsError: The simulation diverged.
    """
    config, ranks = config or TrainConfig(), ranks or Ranks()
    _check_config(config)
    stages = _load_stages([stage_path] if isinstance(stage_path, Path) else stage_path)
    many, stage = len(stages) > 1, stages[0]
    if many:
        _check_scenes(stages, config, ranks)
    robot = TrackedRobot.from_spec(stage.robot)
    start = None if config.warm_start == "none" else _start_path(config.warm_start, robot.name)
    inputs = {f"stage{index or ''}": stage.path for index, stage in enumerate(stages)}
    inputs |= {"start": start} if start else {}
    key = inputs_hash(config, inputs)
    finished = finished_training(out, key, ranks)
    if finished is not None:
        return Trained(out, finished["figures"], finished["kept"])
    threads = use_threads(config.threads)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    seed, dump = ranks.seed(config.seed), rank_file(out / "nan_state.npz", ranks)
    env = _tracking_env(stage, config, 1 if config.actors or many else config.envs, seed, threads, dump)
    net, before = _start_net(start, env, stage, config)
    ppo = PPO(net, config.ppo, ranks)
    if not ranks.first:
        # The network is the same everywhere; what happens is not.
        torch.manual_seed(seed)
    initial = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    started = _judge(stages, robot, net, config) if ranks.first else None

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

    work = unfinished(out)
    course = Course(
        work, key, config.updates, config.checkpoint_every, rank_file(out / "nan_rollout.safetensors", ranks),
        config.tensorboard, profile,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        if many:
            workers = config.actors or len(stages)
            machines = machines or ClusterConfig()
            ray = stack.enter_context(cluster(machines, workers, workers))
            names = [str(stages[index % len(stages)].path) for index in range(workers)]
            make_task = partial(_scene_task, [stage.path.resolve() for stage in stages], config, out.resolve(), workers)
            runner: rl.Runner = SceneRunner(ray, make_task, names, ppo, torch.device("cpu"), machines, seed)
        elif config.actors:
            torch.set_num_threads(max(1, threads - config.actors))
            processes = ActorConfig(config.actors, seed=seed)
            make_task = partial(_actor_task, stage.path, config, out, seed)
            runner = stack.enter_context(AsyncRunner(make_task, ppo, torch.device("cpu"), processes))
        else:
            runner = rl.Runner(env, ppo, torch.device("cpu"))
        ran = run_course(runner, course, lambda progress, extra: info(progress.env_steps, progress.update, extra))
    if started is None:
        told = json.loads(ranks.from_first(b""))
        return Trained(out, told["figures"], told["kept"])
    last = ran.last
    trained = _judge(stages, robot, net, config)
    better = _grade(trained) > _grade(started)
    if not better:
        net.load_state_dict(initial)
    figures = {
        "env_steps": float(last.env_steps),
        "env_steps_per_s": last.env_steps / last.seconds,
        "train_s": last.seconds,
        **_judged_figures("start", started),
        **_judged_figures("trained", trained),
    }
    extra = {"lr": ppo.lr, "stage": stage.sha256, INTERFACE: interface(stage)}
    final = info(last.env_steps, last.update, extra) if better else info(0, 0, extra)
    kept = "trained" if better else "start"
    manifest: dict[str, Any] = {
        "provenance": provenance(config, inputs),
        "figures": figures,
        "kept": kept,
        "warm_start": start.name if start else None,
        "robot": robot.name,
        "machine": machine_info(),
        "seeds": [config.seed],
        "processes": ranks.size,
        "resumed_at_update": ran.begun_at,
    }
    with atomic_dir(out) as folder:
        save_checkpoint(folder / CHECKPOINT_FILE, net, final)
        keep_logs(work, folder)
        write_json(folder / MANIFEST_FILE, manifest)
    shutil.rmtree(work)
    ranks.from_first(json.dumps({"figures": figures, "kept": kept}).encode())
    return Trained(out, figures, kept, ran.profile)


def _tracking_env(stage: Stage, config: TrainConfig, envs: int, seed: int, threads: int, dump: Path) -> TrackingEnv:
    backend = CpuBatch(stage.compile(visuals=False), envs, seed, threads)
    robot = TrackedRobot.from_spec(stage.robot)
    return TrackingEnv(backend, robot, stage.motions, config.task, dump=dump, final_policy_obs=False)


def _actor_task(stage_path: Path, config: TrainConfig, out: Path, seed: int, index: int) -> TrackingEnv:
    """Return the environments of an actor's process, which has a seed of its own."""
    dump = out / f"nan_state_{index}.npz"
    seed += 1_000_003 * index
    # Its share of all cores: while the learner waits for rollouts no core is idle.
    threads = max(1, use_threads(config.threads) // config.actors)
    torch.set_num_threads(1)
    return _tracking_env(Stage.load(stage_path), config, config.envs // config.actors, seed, threads, dump)


def _scene_task(paths: Sequence[Path], config: TrainConfig, out: Path, workers: int, index: int) -> TrackingEnv:
    """Return the environments of a worker of several stages; they are dealt to the workers in turn."""
    stage = Stage.load(paths[index % len(paths)])
    seed = config.seed + 1_000_003 * index
    return _tracking_env(stage, config, config.envs // workers, seed, 1, out / f"nan_state_{index}.npz")


def _load_stages(paths: Sequence[Path]) -> list[Stage]:
    if not paths:
        raise InputError("no stage is given; make one with `bodydouble stage`")
    return [Stage.load(path) for path in paths]


def _check_scenes(stages: Sequence[Stage], config: TrainConfig, ranks: Ranks) -> None:
    """Raise InputError where one policy cannot learn from these stages together."""
    first = stages[0]
    for stage in stages[1:]:
        if stage.robot.name != first.robot.name:
            raise InputError(
                f"{stage.path}: is for robot {stage.robot.name}, {first.path} for {first.robot.name}; train one policy "
                "for each robot"
            )
        if stage.control_hz != first.control_hz:
            raise InputError(
                f"{stage.path}: has {stage.control_hz:g} Hz, {first.path} {first.control_hz:g} Hz; build them alike"
            )
    workers = config.actors or len(stages)
    if workers % len(stages):
        raise InputError(f"config.actors is {workers}, expected 0 or a multiple of the {len(stages)} stages")
    if config.envs % workers:
        raise InputError(f"config.envs is {config.envs}, expected a multiple of the {workers} workers")
    if ranks.size > 1:
        raise InputError("several stages have Ray's workers; torchrun takes one stage")


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
    if warm_start in SHIPPED:
        return shipped_checkpoint(robot, SHIPPED[warm_start])
    path = Path(warm_start)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .safetensors file, or --config.warm-start none")
    return path


def _start_net(
    start: Path | None, env: TrackingEnv, stage: Stage, config: TrainConfig
) -> tuple[ActorCritic, CheckpointInfo | None]:
    joints = stage.robot.joint_names
    if start is None:
        return rl.make_net(env.reset(), len(joints), config.net, torch.device("cpu")), None
    net, info, _ = load_checkpoint(start)
    check_fits(start, info, stage.robot.name, joints, env.spec.size)
    check_interface(start, info, stage)
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


def _judge(stages: Sequence[Stage], robot: TrackedRobot, net: ActorCritic, config: TrainConfig) -> list[Evaluation]:
    return [_judge_one(stage, robot, net, config) for stage in stages]


def _grade(judged: Sequence[Evaluation]) -> tuple[float, float]:
    """Return what a better policy has more of: success, then exactness."""
    return fmean(e.success_rate for e in judged), -fmean(e.mean_body_error_m for e in judged)


def _judged_figures(when: str, judged: Sequence[Evaluation]) -> dict[str, float]:
    success, exactness = _grade(judged)
    figures = {f"{when}_success_rate": success, f"{when}_body_error_m": -exactness}
    if len(judged) > 1:
        for index, evaluation in enumerate(judged):
            figures[f"{when}_success_rate_{index}"] = evaluation.success_rate
            figures[f"{when}_body_error_m_{index}"] = evaluation.mean_body_error_m
    return figures


@torch.no_grad()
def _judge_one(stage: Stage, robot: TrackedRobot, net: ActorCritic, config: TrainConfig) -> Evaluation:
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
