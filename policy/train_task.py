"""Training of a policy for a task without a stage: walking as told, reaching, picking; on the CPU or on a GPU."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.nets.actor_critic import ActorCritic, MeanPolicy, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl import runner as rl
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
from sim.backend.protocol import SimBackend
from sim.env.task import Task
from sim.env.task_env import TaskEnv
from sim.env.task_evaluate import TaskEvaluation, evaluate_task
from sim.tasks.registry import make_task, task_config


@dataclass(frozen=True)
class TaskTrainConfig:
    """How a policy is trained for a task."""

    warm_start: str = "none"
    """Where to start: "none", or a checkpoint (.safetensors) of the same task and robot."""
    updates: int = 400
    """Updates of PPO; each collects `ppo.steps` control steps of every environment."""
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
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(gamma=0.95, target_kl=0.02, optimizer=AdamConfig(lr=5e-4)))
    """PPO."""


@dataclass(frozen=True)
class TrainedTask:
    """A trained policy's folder and figures."""

    path: Path
    """The folder."""
    figures: dict[str, float]
    """Figures of policy.json."""

    def __str__(self) -> str:
        """One line with the outcome."""
        f = self.figures
        return (
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
    name: str, robot: str, out: Path, config: TaskTrainConfig | None = None, setup: Any = None
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

    Raises:
        InputError: Task, robot or settings cannot be used.
        TrainingError: The losses diverged, or a checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    config = config or default_config(name)
    setup = task_config(name)() if setup is None else setup
    _check_config(config)
    task = make_task(name, robot, setup)
    inputs = {} if config.warm_start == "none" else {"start": _start_path(config.warm_start)}
    settings = {"task": name, "robot": robot, "setup": dataclasses.asdict(setup), "train": dataclasses.asdict(config)}
    key = inputs_hash(settings, inputs)
    if is_current(out / MANIFEST_FILE, key):
        return TrainedTask(out, read_json(out / MANIFEST_FILE)["figures"])
    torch.manual_seed(config.seed)
    device = torch.device("cuda:0" if config.backend == "warp" else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    backend = make_backend(task, config, config.envs, config.seed)
    env = TaskEnv(backend, task, dump=out / "nan_state.npz", final_policy_obs=False, spread=True)
    net, before = _start_net(inputs.get("start"), env, name, config, device)
    started = judge(task, net, config)
    ppo = PPO(net, config.ppo)
    work = unfinished(out)
    with atomic_dir(out) as folder:
        runner = rl.Runner(env, ppo, device)
        begun_at = go_on(runner, work, key)

        def info(progress: rl.Progress) -> CheckpointInfo:
            return CheckpointInfo(
                robot=task.robot.name,
                joint_names=task.robot.joint_names,
                policy_size=env.spec.size,
                critic_size=net.critic_norm.mean.shape[0],
                net=net.config,
                env_steps=(before.env_steps if before else 0) + progress.env_steps,
                updates=(before.updates if before else 0) + progress.update,
                extra={"lr": ppo.lr, "task": name, "inputs": key},
            )

        def save(progress: rl.Progress) -> None:
            save_training(work / TRAINING_FILE, runner, info(progress))

        with Curves(work / CURVES_FOLDER, config.tensorboard, begun_at) as curves:
            last = run_updates(
                runner, config.updates, work / LOG_FILE, out / "nan_rollout.safetensors", curves,
                config.checkpoint_every, save,
            )  # fmt: skip
        trained = judge(task, net, config)
        figures = {
            "env_steps": float(last.env_steps),
            "env_steps_per_s": last.env_steps / last.seconds,
            "train_s": last.seconds,
            **{f"start_{figure}": value for figure, value in started.figures.items()},
            **{f"trained_{figure}": value for figure, value in trained.figures.items()},
        }
        save_checkpoint(folder / CHECKPOINT_FILE, net, info(last))
        shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
        if config.tensorboard:
            shutil.copytree(work / CURVES_FOLDER, folder / CURVES_FOLDER)
        manifest: dict[str, Any] = {
            "provenance": provenance(settings, inputs),
            "figures": figures,
            "task": name,
            "robot": robot,
            "setup": dataclasses.asdict(setup),
            "machine": machine_info(),
            "seeds": [config.seed],
            "resumed_at_update": begun_at,
        }
        write_json(folder / MANIFEST_FILE, manifest)
    shutil.rmtree(work)
    return TrainedTask(out, figures)


def make_backend(task: Task, config: TaskTrainConfig, envs: int, seed: int) -> SimBackend:
    """Return simulations of a task where the settings want them.

    Raises:
        InputError: The GPU's packages are missing.
    """
    if config.backend == "warp":
        from sim.backend.warp import WarpBatch

        return WarpBatch(task.model, envs, seed)
    from sim.backend.cpu_batch import CpuBatch

    return CpuBatch(task.model, envs, seed, use_threads(config.threads))


@torch.no_grad()
def judge(task: Task, net: ActorCritic, config: TaskTrainConfig) -> TaskEvaluation:
    """Return how the mean action does in one episode of each of `config.eval_envs` environments."""
    env = TaskEnv(make_backend(task, config, config.eval_envs, config.seed + 1), task)
    policy, device = MeanPolicy(net), next(net.parameters()).device

    def act(obs: Any) -> Any:
        action = policy(torch.as_tensor(obs, device=device))
        return action if config.backend == "warp" else action.numpy()

    return evaluate_task(env, act)


def _check_config(config: TaskTrainConfig) -> None:
    for name in ("updates", "envs", "eval_envs"):
        if getattr(config, name) < 1:
            raise InputError(f"config.{name} is {getattr(config, name)}, expected at least 1")
    if config.checkpoint_every < 0:
        raise InputError(f"config.checkpoint_every is {config.checkpoint_every}, expected 0 or more")
    if config.ppo.steps * config.envs < config.ppo.minibatches:
        raise InputError("config.envs times config.ppo.steps is less than config.ppo.minibatches; take more envs")


def _start_path(warm_start: str) -> Path:
    path = Path(warm_start)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .safetensors file, or --config.warm-start none")
    return path


def _start_net(
    start: Path | None, env: TaskEnv, task: str, config: TaskTrainConfig, device: torch.device
) -> tuple[ActorCritic, CheckpointInfo | None]:
    if start is None:
        return rl.make_net(env.reset(), env.num_joints, config.net, device), None
    net, info, _ = load_checkpoint(start, device)
    check_task(start, info, env.task, task)
    return net, info


def check_task(path: Path, info: CheckpointInfo, task: Task, name: str) -> None:
    """Raise InputError where a checkpoint is for another task, robot, joints or observation."""
    robot = task.robot
    if info.extra.get("task") != name or info.robot != robot.name:
        raise InputError(
            f"{path}: is a policy for task {info.extra.get('task')} and robot {info.robot}, "
            f"expected {name} and {robot.name}"
        )
    if info.joint_names != robot.joint_names or info.policy_size != task.observation.size:
        raise InputError(f"{path}: has other joints or another observation than this version's task; train again")
