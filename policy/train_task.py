"""Training of a policy for a task without a stage: walking as told, reaching, picking; on the CPU or on a GPU."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from bodydouble.artifacts import atomic_dir, inputs_hash, machine_info, provenance, write_json
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_policy, save_checkpoint
from policy.learners import Algorithm, fresh_net, make_training
from policy.nets.actor_critic import NetConfig
from policy.nets.policy_net import MeanPolicy, PolicyNet
from policy.optim.registry import AdamConfig
from policy.rl.off_policy import action_bounds
from policy.rl.ppo import PPOConfig
from policy.rl.privileged import PrivilegedEnv
from policy.rl.ranks import Ranks, local_device
from policy.rl.sac import SACConfig
from policy.rl.training import Progress
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
from sim.backend.protocol import SimBackend
from sim.env.task import Task
from sim.env.task_env import TaskEnv
from sim.env.task_evaluate import TaskEvaluation, evaluate_task
from sim.tasks.registry import make_task, task_config


@dataclass(frozen=True)
class TaskTrainConfig:
    """How a policy is trained for a task."""

    warm_start: str = "none"
    """Where to start: "none", "shipped" (the checkpoint that comes with bodydouble for the task and robot), or one of
    your own (.safetensors)."""
    updates: int = 400
    """Updates; each is of `ppo.steps` (or `sac.steps`) control steps of every environment."""
    envs: int = 256
    """Environments; a GPU takes thousands."""
    backend: Literal["cpu", "warp"] = "cpu"
    """Where to simulate and learn: the CPU, or an NVIDIA GPU with MuJoCo Warp."""
    threads: int = 0
    """Threads of the simulation on the CPU; 0 takes every core."""
    seed: int = 0
    """Seed."""
    checkpoint_every: int = 50
    """Updates between checkpoints of the unfinished training, from which the same command goes on; 0 makes none."""
    tensorboard: bool = False
    """Whether to write curves for TensorBoard, into the folder "tensorboard" of the output."""
    eval_envs: int = 128
    """Episodes of each evaluation, with the task's randomisation."""
    net: NetConfig = field(default_factory=lambda: NetConfig((256, 128), (256, 128)))
    """Sizes of the networks; only for a training from nothing."""
    privileged: bool = False
    """Whether the policy sees what only the critic may: a teacher, for `bodydouble distill`; no robot can run it."""
    reward_groups: tuple[str, ...] = ()
    """Groups of the task's rewards, each "NAME,NAME", that have value functions of their own; the rewards in none are
    one group more. `ppo.critic-weights` says what each is worth."""
    algorithm: Algorithm = "ppo"
    """How to train: "ppo", or "sac", which learns from a replay buffer and needs fewer environment steps, but more
    time for each."""
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(gamma=0.95, target_kl=0.02, optimizer=AdamConfig(lr=5e-4)))
    """PPO."""
    sac: SACConfig = field(default_factory=SACConfig)
    """SAC, with its own networks."""


@dataclass(frozen=True)
class TrainedTask:
    """A trained policy's folder and figures."""

    path: Path
    """The folder."""
    figures: dict[str, float]
    """Figures of policy.json."""
    profile: str | None = None
    """Where the time went, if that was asked for."""

    def __str__(self) -> str:
        """One line with the outcome, after where the time went."""
        f = self.figures
        return (f"{self.profile}\n" if self.profile else "") + (
            f"{self.path}: {f['env_steps']:.0f} env steps at {f['env_steps_per_s']:.0f}/s; success "
            f"{f['start_success_rate']:.2f} -> {f['trained_success_rate']:.2f}, episode reward "
            f"{f['start_total_reward']:.2f} -> {f['trained_total_reward']:.2f}"
        )


def default_config(task: str) -> TaskTrainConfig:
    """Return the settings that a task is trained with from nothing unless others are given."""
    if task == "velocity":
        # What a step does shows over more of the future than an arm's motion.
        ppo = PPOConfig(gamma=0.97, target_kl=0.02, optimizer=AdamConfig(lr=5e-4))
        return TaskTrainConfig(net=NetConfig((512, 256, 128), (512, 256, 128)), ppo=ppo)
    return TaskTrainConfig()


def train_task(
    name: str,
    robot: str,
    out: Path,
    config: TaskTrainConfig | None = None,
    setup: Any = None,
    *,
    ranks: Ranks | None = None,
    profile: bool = False,
) -> TrainedTask:
    """Train for a task and write the policy; a training already made from the same settings is left as it is.

    One that was interrupted goes on from its last checkpoint; on the CPU exactly, on a GPU with new episodes. The
    network is judged before and after, with the same seeds, under the task's randomisation.

    Args:
        name: A task of sim.tasks.registry.
        robot: A robot's registered name.
        out: Folder for policy.safetensors, policy.json and log.jsonl.
        config: Settings of the training.
        setup: Settings of the task.
        ranks: The processes that train together, each with `config.envs` environments of its own; only this one by
            default. The first one judges and writes.
        profile: Whether to record where the time of a few updates goes, into the folder "profile" of the output.

    Raises:
        InputError: Task, robot or settings cannot be used.
        TrainingError: The losses diverged, a checkpoint could not be written, or another rank ended.
        PhysicsError: The simulation diverged.
    """
    config, ranks = config or default_config(name), ranks or Ranks()
    setup = task_config(name)() if setup is None else setup
    _check_config(config)
    groups = [group.split(",") for group in config.reward_groups]
    task = make_task(name, robot, setup)
    inputs = {} if config.warm_start == "none" else {"start": _start_path(config.warm_start, name, robot)}
    settings = {"task": name, "robot": robot, "setup": dataclasses.asdict(setup), "train": dataclasses.asdict(config)}
    key = inputs_hash(settings, inputs)
    finished = finished_training(out, key, ranks)
    if finished is not None:
        return TrainedTask(out, finished["figures"])
    torch.manual_seed(config.seed)
    device = local_device(config.backend == "warp")
    out.mkdir(parents=True, exist_ok=True)
    seed = ranks.seed(config.seed)
    backend = make_backend(task, config, config.envs, seed)
    dump = rank_file(out / "nan_state.npz", ranks)
    env = TaskEnv(
        backend, task, dump=dump, final_policy_obs=config.algorithm == "sac", spread=True, reward_groups=groups
    )
    net, before = _start_net(inputs.get("start"), env, name, config, device)
    training = make_training(config, PrivilegedEnv(env) if config.privileged else env, net, device, ranks)
    if not ranks.first:
        # The network is the same everywhere; what happens is not.
        torch.manual_seed(seed)
    started = judge(task, net, config) if ranks.first else None

    reads = {"reads": "critic"} if config.privileged else {}

    def info(progress: Progress, extra: dict[str, Any]) -> CheckpointInfo:
        return CheckpointInfo(
            robot=task.robot.name,
            joint_names=task.robot.joint_names,
            policy_size=net.actor.norm.mean.shape[0],
            critic_size=net.critic_norm.mean.shape[0],
            net=net.config,
            env_steps=(before.env_steps if before else 0) + progress.env_steps,
            updates=(before.updates if before else 0) + progress.update,
            extra={"lr": training.learner.lr, "task": name, "inputs": key, **reads, **extra},
        )

    work = unfinished(out)
    course = Course(
        work, key, config.updates, config.checkpoint_every, rank_file(out / "nan_rollout.safetensors", ranks),
        config.tensorboard, profile,
    )  # fmt: skip
    ran = run_course(training, course, info)
    if started is None:
        return TrainedTask(out, json.loads(ranks.from_first(b"")))
    last = ran.last
    trained = judge(task, net, config)
    figures = {
        "env_steps": float(last.env_steps),
        "env_steps_per_s": last.env_steps / last.seconds,
        "train_s": last.seconds,
        **{f"start_{figure}": value for figure, value in started.figures.items()},
        **{f"trained_{figure}": value for figure, value in trained.figures.items()},
    }
    manifest: dict[str, Any] = {
        "provenance": provenance(settings, inputs),
        "figures": figures,
        "task": name,
        "robot": robot,
        "setup": dataclasses.asdict(setup),
        "machine": machine_info(),
        "seeds": [config.seed],
        "processes": ranks.size,
        "resumed_at_update": ran.begun_at,
    }
    with atomic_dir(out) as folder:
        save_checkpoint(folder / CHECKPOINT_FILE, net, info(last, {}))
        keep_logs(work, folder)
        write_json(folder / MANIFEST_FILE, manifest)
    shutil.rmtree(work)
    ranks.from_first(json.dumps(figures).encode())
    return TrainedTask(out, figures, ran.profile)


def make_backend(task: Task, config: TaskTrainConfig, envs: int, seed: int) -> SimBackend:
    """Return simulations of a task where the settings want them.

    Raises:
        InputError: The GPU's packages are missing.
    """
    if config.backend == "warp":
        from sim.backend.warp import WarpBatch

        return WarpBatch(task.model, envs, seed, str(local_device(True)))
    from sim.backend.cpu_batch import CpuBatch

    return CpuBatch(task.model, envs, seed, use_threads(config.threads))


@torch.no_grad()
def judge(task: Task, net: PolicyNet, config: TaskTrainConfig) -> TaskEvaluation:
    """Return how the mean action does in one episode of each of `config.eval_envs` environments."""
    env = TaskEnv(make_backend(task, config, config.eval_envs, config.seed + 1), task)
    return judge_on(env, net, privileged=config.privileged)


@torch.no_grad()
def judge_on(env: TaskEnv, net: PolicyNet, *, privileged: bool) -> TaskEvaluation:
    """Return how the mean action does in one episode of each environment.

    Args:
        env: The environments.
        net: The policy.
        privileged: Whether it reads the critic's observation.
    """
    policy, device = MeanPolicy(net), next(net.parameters()).device

    def act(obs: Any) -> Any:
        action = policy(torch.as_tensor(obs, device=device))
        return action.numpy() if env.backend.device == "cpu" else action

    return evaluate_task(PrivilegedEnv(env) if privileged else env, act)  # type: ignore[arg-type]


def _check_config(config: TaskTrainConfig) -> None:
    for name in ("updates", "envs", "eval_envs"):
        if getattr(config, name) < 1:
            raise InputError(f"config.{name} is {getattr(config, name)}, expected at least 1")
    if config.checkpoint_every < 0:
        raise InputError(f"config.checkpoint_every is {config.checkpoint_every}, expected 0 or more")
    if config.net.critics != 1:
        raise InputError(f"config.net.critics is {config.net.critics}; name config.reward_groups instead")
    if config.reward_groups and config.algorithm == "sac":
        raise InputError("config.reward_groups are for ppo; config.algorithm sac learns the sum of all rewards")
    if config.ppo.steps * config.envs < config.ppo.minibatches:
        raise InputError("config.envs times config.ppo.steps is less than config.ppo.minibatches; take more envs")


def _start_path(warm_start: str, task: str, robot: str) -> Path:
    if warm_start == "shipped":
        return shipped_checkpoint(robot, task)
    path = Path(warm_start)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .safetensors file, or --config.warm-start none")
    return path


def _start_net(
    start: Path | None, env: TaskEnv, task: str, config: TaskTrainConfig, device: torch.device
) -> tuple[PolicyNet, CheckpointInfo | None]:
    obs = (PrivilegedEnv(env) if config.privileged else env).reset()
    if start is None:
        robot = env.robot
        bound = action_bounds(robot.default_joint_pos, robot.joint_lower, robot.joint_upper, robot.action_scale)
        settings = dataclasses.replace(config, net=dataclasses.replace(config.net, critics=env.num_groups))
        return fresh_net(settings, obs, bound, device, () if config.privileged else env.spec.layout), None
    net, info, _ = load_policy(start, device)
    check_task(start, info, env.task, task, obs["critic"].shape[1] if config.privileged else None)
    return net, info


def check_task(path: Path, info: CheckpointInfo, task: Task, name: str, teacher_size: int | None = None) -> None:
    """Raise InputError where a checkpoint is for another task, robot, joints or observation.

    Args:
        path: The checkpoint, for messages.
        info: What it says.
        task: The task.
        name: The task's name.
        teacher_size: Size of the critic's observation, where a teacher that reads it is wanted.
    """
    robot = task.robot
    if info.extra.get("reads") == "critic" and teacher_size is None:
        raise InputError(f"{path}: is a teacher that sees what no robot can; distil it first: `bodydouble distill`")
    if info.extra.get("reads") != "critic" and teacher_size is not None:
        raise InputError(f"{path}: reads what a robot has, config.privileged wants a teacher; leave one of them out")
    if info.extra.get("task") != name or info.robot != robot.name:
        raise InputError(
            f"{path}: is a policy for task {info.extra.get('task')} and robot {info.robot}, "
            f"expected {name} and {robot.name}"
        )
    if info.joint_names != robot.joint_names or info.policy_size != (teacher_size or task.observation.size):
        raise InputError(f"{path}: has other joints or another observation than this version's task; train again")
