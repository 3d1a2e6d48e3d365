"""Environment steps per second on the CPU: ours against its peers, and against raw stepping as the limit.

    python -m benchmarks.sim [--envs 256] [--threads 2] [--steps 8]

All in one process (Gymnasium's async environments have their own), interleaved; the figure is the median of five
rounds. Peers and raw stepping have the engine's clock, as its package installs it; ours stops it. Writes the figures
and a picture. Peers come with `pip install 'bodydouble[bench]'`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco.batch
import mujoco.rollout
import numpy as np

from bodydouble.report.figures import bar_plot, merge_figures
from sim.backend.cpu_batch import CpuBatch
from sim.backend.lean import start_clock, stop_clock
from sim.env.humanoid_env import FRAME_SKIP, OBSERVED, HumanoidVectorEnv, humanoid_model
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import robot_spec
from sim.stage.flat import flat_stage
from sim.tasks.tracking.config import TrackingConfig

ROUNDS, WARM_UP, SEED = 5, 20, 0
RECORDED = 64
"""Control steps of G1 tracking that raw stepping makes again."""
OURS = ("ours", "g1_tracking")
TITLES = {
    "ours": "HumanoidVectorEnv", "raw_batch": "raw mujoco.batch", "rollout": "mujoco.rollout", "envpool": "EnvPool",
    "gym_sync": "Gymnasium sync", "gym_async": "Gymnasium async", "sb3_dummy": "SB3 DummyVecEnv",
    "g1_tracking": "TrackingEnv (G1)", "g1_raw": "raw mujoco.batch (G1)",
}  # fmt: skip
G1_FIELDS = ("qpos", "qvel", "xpos", "xquat")
PEERS = ("envpool", "stable-baselines3", "gymnasium", "imageio", "mujoco")
Step = Callable[[], int]
"""One measured call; it returns how many environment steps it made."""


def actions(rng: np.random.Generator, envs: int) -> np.ndarray:
    return rng.uniform(-0.4, 0.4, (envs, 17)).astype(np.float32)


def ours(envs: int, threads: int, rng: np.random.Generator) -> Step:
    env = HumanoidVectorEnv(envs, threads)
    env.reset(seed=SEED)
    return lambda: len(env.step(actions(rng, envs))[1])


def raw_batch(envs: int, threads: int, rng: np.random.Generator) -> Step:
    """Raw stepping with the same fields bound; fallen ones are put up again, which keeps the contacts alike."""
    model = humanoid_model()
    batch = mujoco.batch.Batch(model, envs, threads)
    fields = {name: batch.bind(name) for name in (*OBSERVED, "subtree_com", "ctrl")}

    def step() -> int:
        fields["ctrl"][:] = actions(rng, envs)
        batch.step(nstep=FRAME_SKIP)
        height = fields["qpos"][:, 2]
        fallen = (height < 1.0) | (height > 2.0)
        fields["qpos"][fallen], fields["qvel"][fallen] = model.qpos0, 0.0
        return envs

    return step


def rollout(envs: int, threads: int, rng: np.random.Generator) -> Step:
    """mujoco.rollout gives states only: no observation, no reward, control held for the physics steps."""
    model = humanoid_model()
    datas = [mujoco.MjData(model) for _ in range(threads)]
    pool = mujoco.rollout.Rollout(nthread=threads)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    start = np.zeros((envs, size))
    mujoco.mj_getState(model, datas[0], start[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
    start[:] = start[0]
    state = start.copy()

    def step() -> int:
        nonlocal state
        control = np.repeat(actions(rng, envs)[:, None].astype(np.float64), FRAME_SKIP, axis=1)
        out, _ = pool.rollout(model, datas, state, control)
        state = np.asarray(out)[:, -1].copy()
        fallen = (state[:, 3] < 1.0) | (state[:, 3] > 2.0)
        state[fallen] = start[fallen]
        return envs

    return step


def vector(env: Any, envs: int, rng: np.random.Generator) -> Step:
    env.reset(seed=SEED)
    return lambda: len(env.step(actions(rng, envs))[1])


def envpool_humanoid(envs: int, threads: int, rng: np.random.Generator) -> Step:
    envpool = importlib.import_module("envpool")
    env = envpool.make_gymnasium("Humanoid-v5", num_envs=envs, num_threads=threads, seed=SEED)
    env.reset()
    return lambda: len(env.step(actions(rng, envs).astype(np.float64))[1])


def stable_baselines(envs: int, rng: np.random.Generator) -> Step:
    vec_env = importlib.import_module("stable_baselines3.common.vec_env")
    env = vec_env.DummyVecEnv([lambda: gymnasium.make("Humanoid-v5")] * envs)
    env.reset()
    return lambda: len(env.step(actions(rng, envs))[1])


class Recorder(CpuBatch):
    """The backend, which keeps what each control step started from while it is asked to."""

    steps: list[tuple[np.ndarray, np.ndarray]] | None = None
    """States (N, S) before and controls (N, nu) of control steps."""

    def step(self, ctrl: np.ndarray, previous_ctrl: np.ndarray, delay: np.ndarray, num_substeps: int) -> None:
        if self.steps is not None:
            self.steps.append((self._batch.state.copy(), ctrl.copy()))
        super().step(ctrl, previous_ctrl, delay, num_substeps)

    def models(self) -> dict[str, np.ndarray]:
        """Return every model field that differs between simulations."""
        return {name: np.array(values) for name, values in self._batch._expanded.items()}


def g1(envs: int, threads: int, folder: Path) -> tuple[Step, Step]:
    """Return steps of G1 tracking (observation, reward, randomisation) and of raw stepping.

    Raw stepping makes the same control steps again: the same models, states and controls, the same fields bound. Left
    to themselves its robots would fall and lie, which is other work.
    """
    robot = robot_spec("unitree_g1")
    frames = 500
    root = np.tile([0.0, 0.0, kinematics(robot).standing_height()], (frames, 1))
    joints = np.tile(robot.default_joint_pos, (frames, 1))
    motion = make_robot_motion(robot, 50.0, root, np.tile([1.0, 0, 0, 0], (frames, 1)), joints)
    stage = flat_stage(robot, motion, folder / "flat")
    model = stage.compile(visuals=False)
    backend = Recorder(model, envs, SEED, threads)
    env = TrackingEnv(backend, TrackedRobot.from_spec(robot), stage.motions, TrackingConfig())
    env.reset()
    zero = np.zeros((envs, robot.num_joints), np.float32)
    # After two seconds robots stand, fall and begin anew in the shares that they keep.
    for _ in range(100):
        env.step(zero)
    steps = backend.steps = []
    for _ in range(RECORDED):
        env.step(zero)
    backend.steps = None
    batch = mujoco.batch.Batch(model, envs, threads)
    fields = {name: batch.bind(name) for name in (*G1_FIELDS, "ctrl")}
    for name, values in backend.models().items():
        batch.expand(name)[...] = values
    place = itertools.cycle(steps)

    def raw() -> int:
        batch.state[:], fields["ctrl"][:] = next(place)
        batch.step(nstep=4)
        return envs

    return lambda: len(env.step(zero).reward), raw


def measure(steps: dict[str, Step], count: dict[str, int]) -> dict[str, float]:
    """Return the median of ROUNDS rounds, interleaved, of each one's environment steps per second."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        for _ in range(min(WARM_UP, count[name])):
            step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            stop_clock() if name in OURS else start_clock()
            start = time.perf_counter()
            done = sum(step() for _ in range(count[name]))
            rates[name].append(done / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="control steps of a round; the slow peers make a quarter")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sim.json")
    pictures = Path(__file__).parents[1] / "docs" / "images"
    parser.add_argument("--picture", type=Path, default=pictures / "bench_sim.png")
    options = parser.parse_args()
    envs, threads, rng = options.envs, options.threads, np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        tracking, raw_tracking = g1(envs, threads, Path(folder))
        makers = [lambda: gymnasium.make("Humanoid-v5")] * envs
        asynchronous = gymnasium.vector.AsyncVectorEnv(makers[:32])
        steps: dict[str, Step] = {
            "ours": ours(envs, threads, rng),
            "raw_batch": raw_batch(envs, threads, rng),
            "rollout": rollout(envs, threads, rng),
            "envpool": envpool_humanoid(envs, threads, rng),
            "gym_sync": vector(gymnasium.vector.SyncVectorEnv(makers), envs, rng),
            "gym_async": vector(asynchronous, 32, rng),
            "sb3_dummy": stable_baselines(envs, rng),
            "g1_tracking": tracking,
            "g1_raw": raw_tracking,
        }
        slow = max(1, int(options.steps) // 4)
        count = {name: slow if name in ("gym_sync", "sb3_dummy") else 4 * int(options.steps) for name in steps}
        rates = measure(steps, count)
        asynchronous.close()
    figures = {f"{name}_steps_per_s": round(rate, 1) for name, rate in rates.items()}
    for name, peer in (("envpool", "envpool"), ("gym_sync", "gym_sync"), ("gym_async", "gym_async")):
        figures[f"humanoid_vs_{name}"] = round(rates["ours"] / rates[peer], 3)
    figures["humanoid_vs_sb3"] = round(rates["ours"] / rates["sb3_dummy"], 3)
    figures["humanoid_vs_rollout"] = round(rates["ours"] / rates["rollout"], 3)
    figures["humanoid_vs_raw"] = round(rates["ours"] / rates["raw_batch"], 3)
    figures["g1_vs_raw"] = round(rates["g1_tracking"] / rates["g1_raw"], 3)
    merge_figures(
        options.out,
        "environments",
        f"python -m benchmarks.sim --envs {envs} --threads {threads} --steps {options.steps}",
        figures,
        seeds=[SEED],
        versions_too={name: importlib.metadata.version(name) for name in PEERS},
        notes="Gymnasium's async environments are 32, a process each; the others are --envs.",
    )
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    bars = {TITLES[name]: rate for name, rate in rates.items()}
    title = f"environment steps per second, {envs} environments, {threads} threads"
    options.picture.write_bytes(bar_plot(bars, title, [TITLES[name] for name in OURS]))
    print("\n".join(f"{key}: {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
