"""TrackingEnv: N robots that follow reference motions, on any backend, without a Python loop over environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from bodydouble.control import action_to_target
from bodydouble.errors import InputError, PhysicsError
from bodydouble.frames import quat_from_rotvec, quat_mul, quat_rotate_inv, yaw_quat
from bodydouble.motion import RobotMotion
from bodydouble.observation import TRACKING_OFFSETS, ObservationBuilder, RobotState, tracking_spec
from sim.backend.protocol import SimBackend
from sim.divergence import LARGEST_STATE
from sim.env.tracked_robot import TrackedRobot
from sim.tasks.tracking.config import TrackingConfig
from sim.tasks.tracking.events import SensorBias, noisy_state, randomise_models, symmetric, uniform
from sim.tasks.tracking.motion_bank import MotionBank
from sim.tasks.tracking.rewards import TrackingSample, total_reward
from sim.tasks.tracking.sampler import StartSampler
from sim.tasks.tracking.terminations import cause

Array = Any
_GUARD_INTERVAL = 50
_EPISODE_ARRAYS = (
    "_clip", "_frame", "_hold", "_age", "_delay", "_push_in", "_action", "_last_action", "_target", "_foot_pos",
    "_history",
)  # fmt: skip


@dataclass(frozen=True)
class StepResult:
    """What a control step returned. Arrays of the backend, N environments."""

    obs: dict[str, Array]
    """Observations to act on next: "policy" (N, P) as sensors see it, "critic" (N, C) without noise."""
    reward: Array
    """Rewards (N,)."""
    terminated: Array
    """Episodes that failed (N,), bool."""
    failure: Array
    """Why they failed (N,): 0 they did not, k the k-th of TERMINATIONS, counted from 1."""
    truncated: Array
    """Episodes that ran out of time (N,), bool; their value must be bootstrapped from `final_obs`."""
    final_obs: dict[str, Array]
    """Observations at the end of this step, before any environment was reset; "critic", and "policy" if asked for."""
    body_error: Array
    """Mean distance of the tracked bodies to their reference (N,), m."""


def substeps_per_control(control_hz: float, physics_dt: float) -> int:
    """Return the physics steps of one control step.

    Raises:
        InputError: The control step is not a multiple of the physics step.
    """
    substeps = 1.0 / (control_hz * physics_dt)
    if round(substeps) < 1 or abs(substeps - round(substeps)) > 1e-6:
        raise InputError(
            f"a control step of {1 / control_hz} s is {substeps} physics steps of {physics_dt} s; "
            "choose a control rate whose step is a multiple of the physics step"
        )
    return round(substeps)


class TrackingEnv:
    """N robots, each following a clip of the motion bank from a drawn start."""

    def __init__(
        self,
        backend: SimBackend,
        robot: TrackedRobot,
        motions: Sequence[RobotMotion],
        config: TrackingConfig,
        dump: Path = Path("nan_state.npz"),
        final_policy_obs: bool = True,
    ) -> None:
        """Set the environments up; call `reset` before the first step.

        Args:
            backend: The simulations, of a model whose first joints are the robot's free joint and its J joints.
            robot: The robot.
            motions: Reference motions at the control rate.
            config: The task.
            dump: File that receives the state when the physics diverges.
            final_policy_obs: Whether `final_obs` holds the policy's observation too; PPO needs only the critic's.

        Raises:
            InputError: Model, robot and motions do not fit each other.
        """
        model = backend.model
        self.backend, self.robot, self.config = backend, robot, config
        self.num_envs, self.num_joints = backend.num_envs, len(robot.joint_names)
        self.step_s = 1.0 / config.control_hz
        self._substeps = substeps_per_control(config.control_hz, model.opt.timestep)
        self._dump = dump
        self._final_policy_obs = final_policy_obs
        _check_model(model, robot)
        self.bank = MotionBank(motions, backend, config.control_hz)
        if self.bank.joint_names != robot.joint_names:
            raise InputError(f"the reference's joints are not those of robot {robot.name}; retarget the motion to it")
        as_array = backend.asarray
        self._default = as_array(robot.default_joint_pos)
        self._scale = as_array(robot.action_scale)
        self._lower, self._upper = as_array(robot.joint_lower), as_array(robot.joint_upper)
        self._offsets = as_array(TRACKING_OFFSETS)
        self._bodies = [_body_id(model, name) for name in self.bank.body_names]
        missing = sorted(set(robot.foot_bodies) - set(self.bank.body_names))
        if missing:
            raise InputError(f"the reference does not track foot {missing[0]!r}; retarget the motion again")
        self._feet = [self.bank.body_names.index(name) for name in robot.foot_bodies]
        self._builder = ObservationBuilder(tracking_spec(self.num_joints), self._default)
        self._sampler = StartSampler(self.bank, backend, config.reset)
        foot_geoms = [model.geom(name).id for name in robot.foot_geoms]
        randomise_models(backend, config.randomisation, foot_geoms, self.num_joints)
        self._xp = backend.xp
        self._steps = 0

    @property
    def spec(self) -> Any:
        """The policy observation's terms."""
        return self._builder.spec

    @property
    def clip(self) -> Array:
        """Index of the clip that each environment follows (N,)."""
        return self._clip

    @property
    def frame(self) -> Array:
        """Frame of its clip that each environment is at (N,)."""
        return self._frame

    def reset(self) -> dict[str, Array]:
        """Start every environment anew and return its observations."""
        n, j, xp = self.num_envs, self.num_joints, self._xp
        zeros = self.backend.asarray(np.zeros(n))
        izeros = self.backend.asarray(np.zeros(n, dtype=np.int64))
        self._clip, self._frame, self._hold, self._age = izeros, izeros, izeros, izeros
        self._delay, self._push_in = izeros, izeros
        action = self.backend.asarray(np.zeros((n, j)))
        self._action, self._last_action = action, action
        self._target = action
        self._bias = SensorBias(joint=action, odometry=self.backend.asarray(np.zeros((n, 3))))
        self._foot_pos = self.backend.asarray(np.zeros((n, len(self._feet), 3)))
        self._reset_where(xp.ones_like(zeros) > 0)
        frame = self._observe_policy()
        self._history, policy = self._builder.push(self._builder.start_history(frame), frame)
        return {"policy": policy, "critic": self._observe_critic(fresh=xp.ones_like(zeros) > 0)}

    def snapshot(self) -> dict[str, Array] | None:
        """Return what the coming steps depend on, by name; None where the backend cannot say it.

        The models' randomisation is not in it: it follows from the seed that the environment was built with.
        """
        if not hasattr(self.backend, "snapshot"):
            return None
        arrays = {name[1:]: getattr(self, name) for name in _EPISODE_ARRAYS}
        arrays |= {"bias_joint": self._bias.joint, "bias_odometry": self._bias.odometry}
        arrays |= {"failures": self._sampler.failures}
        return arrays | {f"backend_{name}": array for name, array in self.backend.snapshot().items()}  # type: ignore[attr-defined]

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from what `snapshot` returned, in an environment built from the same arguments."""
        for name in _EPISODE_ARRAYS:
            setattr(self, name, state[name[1:]])
        self._bias = SensorBias(joint=state["bias_joint"], odometry=state["bias_odometry"])
        self._sampler.failures = state["failures"]
        backend = {name.removeprefix("backend_"): a for name, a in state.items() if name.startswith("backend_")}
        self.backend.restore(backend)  # type: ignore[attr-defined]

    def step(self, action: Array) -> StepResult:
        """Advance every environment by one control step.

        Args:
            action: Actions (N, J), float32.

        Raises:
            PhysicsError: The physics diverged; the message names the file with the state.
        """
        xp = self._xp
        still = self._hold > 0
        ahead = self.bank.window(self._clip, self._frame, self._offsets[:1], still)
        target = action_to_target(action, ahead.joint_pos[:, 0], self._scale, self._lower, self._upper)
        self.backend.step(
            self._with_other_actuators(target), self._with_other_actuators(self._target), self._delay, self._substeps
        )
        self._target = target
        self._frame = xp.where(still, self._frame, self._frame + 1)
        self._hold = xp.where(still, self._hold - 1, self._hold)
        self._age = self._age + 1
        self._push()
        self._guard()
        sample = self._sample(action)
        self._last_action, self._action = self._action, action
        failure = cause(sample, self.config.termination)
        terminated = failure > 0
        truncated = ~terminated & (
            (self._age >= round(self.config.episode_s * self.config.control_hz))
            | (self._frame >= self.bank.length[self._clip] - 1 + round(self.config.end_hold_s * self.config.control_hz))
        )
        reward = total_reward(sample, self.config.reward, self.step_s)
        error = sample.body_pos - sample.ref_body_pos
        body_error = xp.mean(xp.sqrt(xp.sum(error * error, axis=-1)), axis=-1)
        final_obs = {"critic": self._observe_critic()}
        if self._final_policy_obs:
            _, final_obs["policy"] = self._builder.push(self._history, self._observe_policy())
        self._sampler.record(self._clip, self._frame, terminated)
        done = terminated | truncated
        self._reset_where(done)
        frame = self._observe_policy()
        history = xp.where(done[:, None, None], self._builder.start_history(frame), self._history)
        self._history, policy = self._builder.push(history, frame)
        obs = {"policy": policy, "critic": self._observe_critic(fresh=done)}
        return StepResult(obs, reward, terminated, failure, truncated, final_obs, body_error)

    def _with_other_actuators(self, target: Array) -> Array:
        others = self.backend.model.nu - self.num_joints
        if others == 0:
            return target
        zeros = self._xp.zeros_like(target[:, :1])
        return self._xp.concat([target, *([zeros] * others)], axis=-1)

    def _split(self) -> tuple[RobotState, Array, Array]:
        """Return the true state, with qpos and qvel."""
        qpos, qvel = self.backend.get_state()
        j = self.num_joints
        state = RobotState(
            root_pos=qpos[:, :3],
            root_quat=qpos[:, 3:7],
            root_lin_vel=qvel[:, :3],
            root_ang_vel=qvel[:, 3:6],
            joint_pos=qpos[:, 7 : 7 + j],
            joint_vel=qvel[:, 6 : 6 + j],
        )
        return state, qpos, qvel

    def _sample(self, action: Array) -> TrackingSample:
        bank, place = self.bank, self.bank.index(self._clip, self._frame)
        now = bank.window(self._clip, self._frame, self._offsets[:1] * 0, self._hold > 0)
        state, _, _ = self._split()
        body_pos = self.backend.body_pos()[:, self._bodies]
        foot_pos = body_pos[:, self._feet]
        sample = TrackingSample(
            root_pos=state.root_pos,
            root_quat=state.root_quat,
            root_lin_vel=state.root_lin_vel,
            root_ang_vel=state.root_ang_vel,
            joint_pos=state.joint_pos,
            body_pos=body_pos,
            body_quat=self.backend.body_quat()[:, self._bodies],
            foot_pos=foot_pos,
            foot_vel=(foot_pos - self._foot_pos) / self.step_s,
            ref_root_pos=now.root_pos[:, 0],
            ref_root_quat=now.root_quat[:, 0],
            ref_root_lin_vel=now.root_lin_vel[:, 0],
            ref_root_ang_vel=now.root_ang_vel[:, 0],
            ref_joint_pos=now.joint_pos[:, 0],
            ref_body_pos=bank.body_pos[place],
            ref_body_quat=bank.body_quat[place],
            ref_foot_pos=bank.body_pos[place][:, self._feet],
            ref_contact=bank.contact[place],
            action=action,
            last_action=self._action,
            second_last_action=self._last_action,
            joint_lower=self._lower,
            joint_upper=self._upper,
        )
        self._foot_pos = foot_pos
        return sample

    def _observe_policy(self) -> Array:
        """Return one frame (N, P) of the policy's observation, as sensors see it."""
        state, _, _ = self._split()
        ref = self.bank.window(self._clip, self._frame, self._offsets, self._hold > 0)
        seen = noisy_state(self.backend, self.config.randomisation, state, self._bias)
        return self._builder.frame(seen, ref, self._action)

    def _observe_critic(self, fresh: Array | None = None) -> Array:
        """Return the critic's observation (N, C), without noise.

        Body poses of freshly reset environments are not computed yet; there the reference's stand in for them.
        """
        xp, bank = self._xp, self.bank
        state, _, _ = self._split()
        ref = bank.window(self._clip, self._frame, self._offsets, self._hold > 0)
        place = bank.index(self._clip, self._frame)
        ref_body = bank.body_pos[place]
        body = self.backend.body_pos()[:, self._bodies]
        if fresh is not None:
            body = xp.where(fresh[:, None, None], ref_body, body)
        heading = yaw_quat(state.root_quat)
        error = quat_rotate_inv(heading[:, None], ref_body - body)
        relative = quat_rotate_inv(heading[:, None], body - state.root_pos[:, None])
        n = self.num_envs
        return xp.concat(
            [
                self._builder.frame(state, ref, self._action),
                quat_rotate_inv(heading, state.root_lin_vel),
                xp.reshape(error, (n, -1)),
                xp.reshape(relative, (n, -1)),
                bank.contact[place],
                xp.astype(self._delay, xp.float32)[:, None],
            ],
            axis=-1,
        )

    def _push(self) -> None:
        config, xp = self.config.randomisation, self._xp
        if config.push_speed == 0:
            return
        n = self.num_envs
        due = self._push_in <= 0
        _, qpos, qvel = self._split()
        kick = symmetric(self.backend, config.push_speed, n, 2)
        added = xp.concat([kick, xp.zeros_like(qvel[:, 2:])], axis=-1)
        self.backend.set_state(qpos, xp.where(due[:, None], qvel + added, qvel))
        self._push_in = xp.where(due, self._draw_push(), self._push_in - 1)

    def _draw_push(self) -> Array:
        low, high = self.config.randomisation.push_interval_s
        steps = uniform(self.backend, low, high, self.num_envs) * self.config.control_hz
        return self._xp.astype(steps, self._xp.int64)

    def _reset_where(self, done: Array) -> None:
        """Give the environments in `done` (N,) a new episode; the others are left as they are."""
        xp, backend, bank = self._xp, self.backend, self.bank
        config, n, j = self.config.reset, self.num_envs, self.num_joints
        clip, frame = self._sampler.draw(n)
        low, high = config.hold_s
        hold = xp.astype(uniform(backend, low, high, n) * self.config.control_hz, xp.int64)
        hold = xp.where(frame == 0, hold, xp.zeros_like(hold))
        low_delay, high_delay = self.config.randomisation.delay_substeps
        delay = low_delay + xp.astype(backend.random(n) * (high_delay - low_delay + 1), xp.int64)
        self._clip, self._frame = xp.where(done, clip, self._clip), xp.where(done, frame, self._frame)
        self._hold, self._age = xp.where(done, hold, self._hold), xp.where(done, xp.zeros_like(hold), self._age)
        self._delay, self._push_in = (
            xp.where(done, delay, self._delay),
            xp.where(done, self._draw_push(), self._push_in),
        )
        bias = SensorBias.draw(backend, self.config.randomisation, j)
        rows = done[:, None]
        self._bias = SensorBias(
            joint=xp.where(rows, bias.joint, self._bias.joint),
            odometry=xp.where(rows, bias.odometry, self._bias.odometry),
        )
        place = bank.index(self._clip, self._frame)
        now = bank.window(self._clip, self._frame, self._offsets[:1] * 0, self._hold > 0)
        lift = xp.zeros_like(now.root_pos[:, 0, :1])
        shift = xp.concat([symmetric(backend, config.root_noise, n, 2), lift], axis=-1)
        turn = quat_from_rotvec(symmetric(backend, config.rot_noise, n, 3))
        joint_pos = now.joint_pos[:, 0] + symmetric(backend, config.joint_noise, n, j)
        joint_pos = xp.minimum(xp.maximum(joint_pos, self._lower), self._upper)
        _, qpos, qvel = self._split()
        new_qpos = xp.concat(
            [now.root_pos[:, 0] + shift, quat_mul(now.root_quat[:, 0], turn), joint_pos, qpos[:, 7 + j :]], axis=-1
        )
        new_qvel = xp.concat(
            [
                now.root_lin_vel[:, 0] + symmetric(backend, config.vel_noise, n, 3),
                now.root_ang_vel[:, 0] + symmetric(backend, config.vel_noise, n, 3),
                now.joint_vel[:, 0],
                qvel[:, 6 + j :],
            ],
            axis=-1,
        )
        backend.set_state(xp.where(rows, new_qpos, qpos), xp.where(rows, new_qvel, qvel))
        zeros = xp.zeros_like(self._action)
        self._action = xp.where(rows, zeros, self._action)
        self._last_action = xp.where(rows, zeros, self._last_action)
        self._target = xp.where(rows, joint_pos, self._target)
        self._foot_pos = xp.where(rows[..., None], bank.body_pos[place][:, self._feet], self._foot_pos)

    def _guard(self) -> None:
        """Raise when the physics diverged; on a GPU the check waits for it, so it is made now and then."""
        self._steps += 1
        if self._steps % _GUARD_INTERVAL and self.backend.device != "cpu":
            return
        qpos, qvel = self.backend.get_state()
        # NaN compares as false, so it is bad too.
        sound = [self._xp.all(self._xp.abs(array) < LARGEST_STATE, axis=-1) for array in (qpos, qvel)]
        bad = ~(sound[0] & sound[1])
        if not bool(self._xp.any(bad)):
            return
        arrays = {
            "qpos": qpos,
            "qvel": qvel,
            "target": self._target,
            "bad": bad,
            "clip": self._clip,
            "frame": self._frame,
        }
        host: dict[str, Any] = {name: np.asarray(a.cpu() if hasattr(a, "cpu") else a) for name, a in arrays.items()}
        np.savez_compressed(self._dump, **host)
        raise PhysicsError(
            f"physics diverged in {int(host['bad'].sum())} of {self.num_envs} simulations; "
            f"the state is in {self._dump}, look at it with `bodydouble view {self._dump}`"
        )


def _body_id(model: mujoco.MjModel, name: str) -> int:
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        raise InputError(f"the model has no body {name!r} that the reference tracks; build the stage again")
    return body


def _check_model(model: mujoco.MjModel, robot: TrackedRobot) -> None:
    j = len(robot.joint_names)
    names = tuple(model.joint(i).name for i in range(min(model.njnt, j + 1)))
    free_first = model.njnt > 0 and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    if not free_first or names[1:] != robot.joint_names:
        raise InputError(f"the model does not begin with robot {robot.name}'s free joint and its {j} joints in order")
    if model.nu < j:
        raise InputError(f"the model has {model.nu} actuators for {j} joints; it needs a position actuator for each")
