"""Episodes of the gate: perturbed simulations driven by the runtime that drives the robot, one seed each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from bodydouble.observation import RobotState
from robot.policy_file import PolicyFile
from robot.runtime import PolicyRuntime, TickResult
from sim.divergence import LARGEST_STATE
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import substeps_per_control
from sim.gate.seeded_batch import SeededBatch
from sim.gate.tiers import Tier
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TerminationConfig
from sim.tasks.tracking.events import SensorBias, noisy_state, randomise_models, symmetric, uniform
from sim.tasks.tracking.terminations import TERMINATIONS, cause

CAUSES = (*TERMINATIONS, "safety_stop", "diverged")
"""Why an episode can fail: the tracking task's terminations, a stop of the safety layer, physics that diverged."""
END_HOLD_S = 0.5
"""Time that the reference's last frame is held, s."""


@dataclass(frozen=True)
class Episode:
    """Outcome of one episode."""

    seed: int
    """Its seed; with the tier's name it repeats the episode bit for bit."""
    clip: int
    """The stage's motion that was followed."""
    cause: str
    """Why it failed, one of CAUSES; empty where it followed the reference to its end."""
    lasted_s: float
    """Time until it failed or ended, s."""
    body_error_m: float
    """Mean distance of the tracked bodies to their reference while it lasted, m."""
    trajectory_sha256: str
    """Hash of every position of the simulation, bit by bit."""


class Watcher(Protocol):
    """Something that is told of an episode, step by step."""

    def step(self, number: int, t_ns: int, seen: RobotState, result: TickResult, qpos: np.ndarray) -> None:
        """Take a control step.

        Args:
            number: Number of the episode in the run.
            t_ns: Time of the tick, ns.
            seen: What the sensors said, arrays of all episodes.
            result: What the runtime decided.
            qpos: The simulation's true positions at the tick (nq,).
        """
        ...


def run_episodes(
    file: PolicyFile, stage: Stage, tier: Tier, seeds: Sequence[int], termination: TerminationConfig, threads: int,
    watcher: Watcher | None = None,
) -> list[Episode]:  # fmt: skip
    """Run one episode per seed: the whole reference from its start, through the deployment runtime.

    Everything random follows from an episode's own seed and the tier: policies with the same seeds meet the same
    perturbations, and an episode alone is the same as among others, at any number of threads.

    Args:
        file: The policy.
        stage: The stage; an episode follows motion `seed % number of motions`.
        tier: The perturbations.
        seeds: Seeds of the episodes.
        termination: What counts as a failure.
        threads: Threads of the simulation; 0 takes every core.
        watcher: Is told of every step.

    Raises:
        ContractError: The policy does not fit the stage's motions.
        InputError: The stage's robot cannot follow a motion.
    """
    run = _Run(file, stage, tier, list(seeds), termination, threads)
    longest = max(motion.num_frames for motion in run.motions)
    for step in range(longest - 1 + round(END_HOLD_S * stage.control_hz)):
        run.step(step, watcher)
        if not run.running.any():
            break
    return run.outcomes()


class _Run:
    """N episodes that run side by side."""

    def __init__(
        self, file: PolicyFile, stage: Stage, tier: Tier, seeds: list[int], termination: TerminationConfig, threads: int
    ) -> None:
        robot = TrackedRobot.from_spec(stage.robot)
        self.stage, self.config, self.termination, self.seeds = stage, tier.randomisation, termination, seeds
        self.count, self.joints = len(seeds), len(robot.joint_names)
        model = stage.compile(visuals=False)
        self.substeps = substeps_per_control(stage.control_hz, stage.physics_dt)
        self.backend = SeededBatch(model, seeds, threads)
        self.clip = [seed % len(stage.motions) for seed in seeds]
        self.motions = [stage.motions[clip] for clip in self.clip]
        self.runtimes = [PolicyRuntime(file, motion) for motion in self.motions]
        for runtime in self.runtimes:
            runtime.ask("track")
        bodies = stage.reference.body_names
        missing = sorted(set(robot.foot_bodies) - set(bodies))
        if missing:
            raise InputError(f"{stage.path}: the reference does not track foot {missing[0]!r}; build the stage again")
        self.bodies = np.array([model.body(name).id for name in bodies])
        self.feet = [bodies.index(name) for name in robot.foot_bodies]
        # Always drawn in this order, whatever the policy does: that is what pairs the policies.
        randomise_models(self.backend, self.config, [model.geom(name).id for name in robot.foot_geoms], self.joints)
        low, high = self.config.delay_substeps
        self.delay = low + (self.backend.random(self.count) * (high - low + 1)).astype(np.int64)
        self.bias = SensorBias.draw(self.backend, self.config, self.count, self.joints)
        self.push_in = self._draw_push()
        self._place(model.qpos0)
        self.target = np.stack([motion.joint_pos[0] for motion in self.motions]).astype(np.float64)
        self.running = np.ones(self.count, dtype=bool)
        self.cause = [""] * self.count
        self.steps = np.zeros(self.count, dtype=np.int64)
        self.error = np.zeros(self.count)
        self.digest = [hashlib.sha256() for _ in seeds]

    def step(self, step: int, watcher: Watcher | None) -> None:
        """Advance all episodes by one control step."""
        t_ns = round((step + 1) * 1e9 / self.stage.control_hz)
        seen, before = self._seen(), self.backend.exact_positions()
        previous, stopped = self.target.copy(), np.zeros(self.count, dtype=bool)
        for number in np.flatnonzero(self.running):
            result = self._tick(int(number), t_ns, seen)
            if result.command is not None:
                self.target[number] = result.command
            stopped[number] = result.mode == "stopped"
            self.digest[number].update(before[number].tobytes())
            if watcher is not None:
                watcher.step(int(number), t_ns, seen, result, before[number])
        self.backend.step(self._controls(self.target), self._controls(previous), self.delay, self.substeps)
        self._push()
        self._judge(step + 1, stopped)

    def outcomes(self) -> list[Episode]:
        """Return what became of each episode."""
        return [
            Episode(
                seed=seed,
                clip=self.clip[n],
                cause=self.cause[n],
                lasted_s=float(self.steps[n]) / self.stage.control_hz,
                body_error_m=float(self.error[n] / max(self.steps[n], 1)),
                trajectory_sha256=self.digest[n].hexdigest(),
            )
            for n, seed in enumerate(self.seeds)
        ]

    def _place(self, rest: np.ndarray) -> None:
        qpos = np.tile(rest, (self.count, 1))
        qvel = np.zeros((self.count, self.backend.model.nv))
        for n, motion in enumerate(self.motions):
            qpos[n, : 7 + self.joints] = [*motion.root_pos[0], *motion.root_quat[0], *motion.joint_pos[0]]
            qvel[n, : 6 + self.joints] = [*motion.root_lin_vel[0], *motion.root_ang_vel[0], *motion.joint_vel[0]]
        self.backend.set_state(qpos.astype(np.float32), qvel.astype(np.float32))

    def _seen(self) -> RobotState:
        qpos, qvel = self.backend.get_state()
        j = self.joints
        state = RobotState(
            root_pos=qpos[:, :3],
            root_quat=qpos[:, 3:7],
            root_lin_vel=qvel[:, :3],
            root_ang_vel=qvel[:, 3:6],
            joint_pos=qpos[:, 7 : 7 + j],
            joint_vel=qvel[:, 6 : 6 + j],
        )
        return noisy_state(self.backend, self.config, state, self.bias)

    def _tick(self, number: int, t_ns: int, seen: RobotState) -> TickResult:
        runtime = self.runtimes[number]
        names = self.stage.robot.joint_names
        runtime.on_joint_state(
            t_ns, names, seen.joint_pos[number].astype(np.float64), seen.joint_vel[number].astype(np.float64)
        )
        runtime.on_imu(t_ns, seen.root_quat[number].astype(np.float64), seen.root_ang_vel[number].astype(np.float64))
        runtime.on_odom(t_ns, seen.root_pos[number].astype(np.float64))
        return runtime.tick(t_ns)

    def _controls(self, target: np.ndarray) -> np.ndarray:
        others = self.backend.model.nu - self.joints
        return np.concatenate([target, np.zeros((self.count, others))], axis=1) if others else target

    def _draw_push(self) -> np.ndarray:
        low, high = self.config.push_interval_s
        return (uniform(self.backend, low, high, self.count) * self.stage.control_hz).astype(np.int64)

    def _push(self) -> None:
        kick = symmetric(self.backend, self.config.push_speed, self.count, 2)
        again = self._draw_push()
        due = self.push_in <= 0
        self.push_in = np.where(due, again, self.push_in - 1)
        rows = np.flatnonzero(due & self.running)
        if self.config.push_speed > 0 and len(rows):
            qpos, qvel = self.backend.get_state()
            qvel[rows, :2] += kick[rows]
            self.backend.set_state(qpos[rows], qvel[rows], rows)

    def _judge(self, frame: int, stopped: np.ndarray) -> None:
        """Count the step, and end the episodes that failed or came to their end."""
        qpos, qvel = self.backend.get_state()
        # NaN compares as false.
        sound = np.all(np.abs(np.concatenate([qpos, qvel], axis=1)) < LARGEST_STATE, axis=1)
        place = [min(frame, motion.num_frames - 1) for motion in self.motions]
        reference = [_frame(motion, at) for motion, at in zip(self.motions, place, strict=True)]
        ref_pos, ref_quat, ref_body = (np.stack(part) for part in zip(*reference, strict=True))
        body = self.backend.body_pos()[:, self.bodies].astype(np.float64)
        sample: Any = SimpleNamespace(
            root_pos=qpos[:, :3].astype(np.float64), root_quat=qpos[:, 3:7].astype(np.float64), ref_root_pos=ref_pos,
            ref_root_quat=ref_quat, foot_pos=body[:, self.feet], ref_foot_pos=ref_body[:, self.feet],
        )  # fmt: skip
        with np.errstate(invalid="ignore"):
            failure = cause(sample, self.termination)
            error = np.linalg.norm(body - ref_body, axis=2).mean(axis=1)
        for n in np.flatnonzero(self.running):
            self.steps[n] += 1
            if not sound[n]:
                self.cause[n] = "diverged"
            else:
                self.error[n] += error[n]
                if failure[n]:
                    self.cause[n] = CAUSES[failure[n] - 1]
                elif stopped[n]:
                    self.cause[n] = "safety_stop"
            last = self.motions[n].num_frames - 1 + round(END_HOLD_S * self.stage.control_hz)
            self.running[n] = not self.cause[n] and frame < last
        if not sound.all():
            # What has diverged stands at its start again, so that the others can go on.
            rows = np.flatnonzero(~sound)
            rest = np.tile(self.backend.model.qpos0, (len(rows), 1))
            self.backend.set_state(rest.astype(np.float32), np.zeros((len(rows), self.backend.model.nv)), rows)


def _frame(motion: RobotMotion, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return motion.root_pos[at], motion.root_quat[at], motion.body_pos[at]
