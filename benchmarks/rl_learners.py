"""One PPO training on a Gymnasium task by each library: same network, same batches, same bound on time.

    python -m benchmarks.rl_learners ours HalfCheetah-v5 --seconds 60 --seed 0 --out run.json

A process of its own per training, so that none inherits another's threads or allocations. Wall-clock counts from the
training's first step on; processes, environments and networks are made before. `benchmarks.rl` compares them all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks import stand_reach
from bodydouble.artifacts import write_json
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.asynchronous import ActorConfig, AsyncRunner
from policy.rl.gym_task import GymTask
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.reward_scale import RewardScale
from policy.rl.runner import Progress, Runner
from sim.env.ant_env import AntVectorEnv
from sim.env.half_cheetah_env import HalfCheetahVectorEnv
from sim.env.humanoid_env import HumanoidVectorEnv

TASKS = {
    "HalfCheetah-v5": HalfCheetahVectorEnv,
    "Ant-v5": AntVectorEnv,
    "Humanoid-v5": HumanoidVectorEnv,
    stand_reach.NAME: stand_reach.StandReachVectorEnv,
}
ENVS, STEPS, EPOCHS, MINIBATCHES = 32, 64, 5, 8
LAYERS = (256, 128)
LR, GAMMA, LAM, CLIP, GRAD_NORM, STD = 3e-4, 0.99, 0.95, 0.2, 1.0, 0.6
WINDOW = 32
"""Finished episodes whose mean return counts."""


class TimeIsOverError(Exception):
    """The time is over."""


class Clock:
    """Counts environment steps and the returns of finished episodes, and ends a training when its time is over."""

    def __init__(self, seconds: float, log: Path | None = None) -> None:
        """Start at the first step; every point of the curve goes to `log` too, for who reads it in another process."""
        self.limit = seconds
        self.begun: float | None = None
        self.env_steps = 0
        self.finished: deque[float] = deque(maxlen=WINDOW)
        self.running = np.zeros(ENVS)
        self.curve: list[tuple[float, int, float]] = []
        self.log = log

    def step(self, reward: np.ndarray, done: np.ndarray) -> None:
        """Take unscaled rewards (N,) and ends (N,) of one step; raise TimeIsOverError at the end."""
        if self.begun is None:
            self.begun = time.monotonic()
        self.env_steps += len(reward)
        self.running += reward
        elapsed = time.monotonic() - self.begun
        if done.any():
            self.finished.extend(self.running[done].tolist())
            self.running[done] = 0.0
            if len(self.finished) == WINDOW:
                self.curve.append((elapsed, self.env_steps, float(np.mean(self.finished))))
                if self.log is not None:
                    with open(self.log, "a") as file:
                        file.write(json.dumps(self.curve[-1]) + "\n")
        if elapsed > self.limit:
            raise TimeIsOverError

    def result(self) -> dict[str, Any]:
        """Return what was measured: the curve of seconds, environment steps and mean return."""
        return {
            "seconds": self.limit,
            "env_steps": self.env_steps,
            "env_steps_per_s": self.env_steps / self.limit,
            "curve": [[round(s, 3), n, round(r, 3)] for s, n, r in self.curve],
        }


class Timed(gymnasium.vector.VectorWrapper):
    """A vector environment that tells a clock of every step."""

    def __init__(self, env: gymnasium.vector.VectorEnv, clock: Clock) -> None:
        super().__init__(env)
        self.clock = clock

    def step(self, actions: np.ndarray) -> Any:
        out = self.env.step(actions)
        self.clock.step(np.asarray(out[1]), np.asarray(out[2] | out[3]))
        return out


def peers_env(task: str, threads: int) -> gymnasium.vector.VectorEnv:
    """Return Gymnasium's own vector environment, or ours where Gymnasium has none."""
    if task not in gymnasium.registry:
        return TASKS[task](ENVS, threads=threads)
    return SyncVectorEnv([lambda: gymnasium.make(task)] * ENVS, autoreset_mode=AutoresetMode.SAME_STEP)


def our_task(task: str, seed: int, threads: int, index: int = 0, clock: Clock | None = None) -> GymTask:
    """Return the task of one process of ours, whose steps a clock may count as it counts the peers'."""
    env: gymnasium.vector.VectorEnv = TASKS[task](ENVS, threads=threads)
    return GymTask(Timed(env, clock) if clock else env, seed + 1000 * index, GAMMA, WINDOW)


def our_ppo(observations: int, actions: int) -> PPO:
    """Return the learner."""
    config = PPOConfig(
        steps=STEPS,
        epochs=EPOCHS,
        minibatches=MINIBATCHES,
        gamma=GAMMA,
        lam=LAM,
        entropy_weight=0.0,
        max_grad_norm=GRAD_NORM,
        target_kl=0.0,
        optimizer=AdamConfig(lr=LR),
    )
    return PPO(ActorCritic(observations, observations, actions, NetConfig(LAYERS, LAYERS, STD)), config)


def train_ours(task: str, seed: int, clock: Clock) -> None:
    """Train with this project, on its batched simulation: collect and learn in turn, on all threads."""
    gym_task = our_task(task, seed, torch.get_num_threads(), clock=clock)
    ppo = our_ppo(gym_task.reset()["policy"].shape[1], gym_task.action_size)
    Runner(gym_task, ppo, torch.device("cpu")).train(lambda progress: False, lambda progress: None)


def actor_task(task: str, seed: int, threads: int, log: Path, index: int) -> GymTask:
    """Return the task of an actor's process; steps count there, as they do where they are made by the learner."""
    return our_task(task, seed, threads, index, Clock(float("inf"), log))


def train_ours_async(task: str, seed: int, clock: Clock) -> None:
    """The same with an actor in a process of its own: the learner has one thread, the simulation all of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    probe = our_task(task, seed, 1)
    ppo = our_ppo(probe.reset()["policy"].shape[1], probe.action_size)

    def stop(progress: Progress) -> bool:
        clock.env_steps = progress.env_steps
        return progress.seconds > clock.limit

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "curve.jsonl"
        make_task = partial(actor_task, task, seed, threads, log)
        with AsyncRunner(make_task, ppo, torch.device("cpu"), ActorConfig(seed=seed)) as runner:
            runner.train(stop, lambda progress: None)
        curve = [json.loads(line) for line in log.read_text().splitlines()]
    clock.curve = [(s, n, r) for s, n, r in curve if s <= clock.limit]


def train_sb3(task: str, seed: int, clock: Clock) -> None:
    """Train with Stable-Baselines3's PPO, DummyVecEnv (or our vector environment) and VecNormalize."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

    class OurVecEnv(VecEnv):
        """A vector environment of Gymnasium's kind as one of theirs."""

        def __init__(self) -> None:
            self.env = peers_env(task, torch.get_num_threads())
            super().__init__(ENVS, self.env.single_observation_space, self.env.single_action_space)

        def reset(self) -> Any:
            return self.env.reset(seed=seed)[0].copy()

        def step_async(self, actions: np.ndarray) -> None:
            self.actions = actions

        def step_wait(self) -> Any:
            obs, reward, terminated, truncated, info = self.env.step(self.actions)
            done = terminated | truncated
            infos: list[dict[str, Any]] = [{} for _ in range(ENVS)]
            for i in np.flatnonzero(done):
                infos[i] = {"terminal_observation": info["final_obs"][i].copy()}
                infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
            return obs.copy(), np.array(reward), done, infos

        def close(self) -> None:
            self.env.close()

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * ENVS

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError(method_name)

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(self.env, attr_name)] * ENVS

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError(attr_name)

    class TimedVecEnv(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            out = self.venv.step_wait()
            clock.step(np.asarray(out[1], float), np.asarray(out[2], bool))
            return out

    theirs = task in gymnasium.registry
    made = DummyVecEnv([lambda: gymnasium.make(task)] * ENVS) if theirs else OurVecEnv()
    env = VecNormalize(TimedVecEnv(made), gamma=GAMMA)
    model = stable_baselines3.PPO(
        "MlpPolicy",
        env,
        n_steps=STEPS,
        batch_size=ENVS * STEPS // MINIBATCHES,
        n_epochs=EPOCHS,
        gamma=GAMMA,
        gae_lambda=LAM,
        clip_range=CLIP,
        learning_rate=LR,
        max_grad_norm=GRAD_NORM,
        vf_coef=1.0,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "net_arch": {"pi": list(LAYERS), "vf": list(LAYERS)},
            "activation_fn": torch.nn.ELU,
            "log_std_init": float(np.log(STD)),
        },
    )
    model.learn(total_timesteps=10**12)


def train_rsl_rl(task: str, seed: int, clock: Clock, *, on_ours: bool = False) -> None:
    """Train with rsl_rl's PPO on Gymnasium's vector environment, or on this project's simulation."""
    from rsl_rl.env import VecEnv
    from rsl_rl.runners import OnPolicyRunner
    from tensordict import TensorDict

    inner = TASKS[task](ENVS, threads=torch.get_num_threads()) if on_ours else peers_env(task, torch.get_num_threads())
    gym_env = Timed(inner, clock)

    class Env(VecEnv):
        num_envs, max_episode_length, device, cfg = ENVS, 1000, "cpu", {}
        num_actions = gym_env.single_action_space.shape[0]  # type: ignore[index]

        def __init__(self) -> None:
            self.episode_length_buf = torch.zeros(ENVS, dtype=torch.long)
            self.scale = RewardScale(ENVS, GAMMA)
            self.low, self.high = gym_env.single_action_space.low, gym_env.single_action_space.high  # type: ignore[attr-defined]
            self.obs, _ = gym_env.reset(seed=seed)

        def get_observations(self) -> TensorDict:
            return TensorDict({"obs": torch.as_tensor(np.asarray(self.obs, np.float32))}, batch_size=[ENVS])

        def step(self, actions: torch.Tensor) -> Any:
            taken = np.clip(actions.numpy(), self.low, self.high)
            self.obs, reward, terminated, truncated, _ = gym_env.step(taken)
            done = terminated | truncated
            scaled = torch.as_tensor(self.scale(np.asarray(reward), done))
            extras = {"time_outs": torch.as_tensor(truncated)}
            return self.get_observations(), scaled, torch.as_tensor(done), extras

    model = {"class_name": "MLPModel", "hidden_dims": list(LAYERS), "activation": "elu", "obs_normalization": True}
    spread = {"class_name": "GaussianDistribution", "init_std": STD, "std_type": "log"}
    config = {
        "num_steps_per_env": STEPS,
        "save_interval": 10**9,
        "check_for_nan": False,
        "obs_groups": {"actor": ["obs"], "critic": ["obs"]},
        "actor": {**model, "distribution_cfg": spread},
        "critic": dict(model),
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": EPOCHS,
            "num_mini_batches": MINIBATCHES,
            "clip_param": CLIP,
            "gamma": GAMMA,
            "lam": LAM,
            "value_loss_coef": 1.0,
            "use_clipped_value_loss": False,
            "entropy_coef": 0.0,
            "learning_rate": LR,
            "max_grad_norm": GRAD_NORM,
            "schedule": "fixed",
        },
    }
    with contextlib.redirect_stdout(io.StringIO()):
        OnPolicyRunner(Env(), config, log_dir=None, device="cpu").learn(10**9)


LEARNERS = {
    "ours": train_ours,
    "ours_async": train_ours_async,
    "sb3": train_sb3,
    "rsl_rl": train_rsl_rl,
    "rsl_rl_on_ours": lambda task, seed, clock: train_rsl_rl(task, seed, clock, on_ours=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", choices=LEARNERS)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall-clock of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    clock = Clock(options.seconds)
    with contextlib.suppress(TimeIsOverError):
        LEARNERS[options.learner](options.task, options.seed, clock)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, clock.result())


if __name__ == "__main__":
    main()
