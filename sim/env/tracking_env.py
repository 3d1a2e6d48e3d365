"""TrackingEnv: N robots that follow reference motions, on any backend, without a Python loop over environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from bodydouble.control import action_to_target
from bodydouble.errors import InputError
from bodydouble.frames import heading_rotate_inv, quat_from_rotvec, quat_mul
from bodydouble.motion import RobotMotion
from bodydouble.observation import TRACKING_OFFSETS, ObservationBuilder, ReferenceWindow, RobotState, tracking_spec
from sim.backend.protocol import SimBackend
from sim.env.chosen import Chosen
from sim.env.guard import DivergenceGuard
from sim.env.tracked_robot import TrackedRobot
from sim.tasks.tracking.config import TrackingConfig
from sim.tasks.tracking.events import SensorBias, noisy_state, randomise_models, symmetric, uniform
from sim.tasks.tracking.motion_bank import MotionBank
from sim.tasks.tracking.rewards import TrackingSample, total_reward
from sim.tasks.tracking.sampler import StartSampler
from sim.tasks.tracking.terminations import cause

Array = Any
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
        self._guard = DivergenceGuard(backend, dump)
        self._final_policy_obs = final_policy_obs
        _check_model(model, robot)
        self.bank = MotionBank(motions, backend, config.control_hz)
        if self.bank.joint_names != robot.joint_names:
            raise InputError(f"the reference's joints are not those of robot {robot.name}; retarget the motion to it")
        as_array = backend.asarray
        self._default = as_array(robot.default_joint_pos)
        self._scale = as_array(robot.action_scale)
        self._lower, self._upper = as_array(robot.joint_lower), as_array(robot.joint_upper)
        self._rest = as_array(model.qpos0[7 + self.num_joints :])
        self._offsets = as_array((0, *TRACKING_OFFSETS))
        # Arrays, not lists: on a GPU a list is uploaded again at every use.
        self._bodies = as_array([_body_id(model, name) for name in self.bank.body_names])
        missing = sorted(set(robot.foot_bodies) - set(self.bank.body_names))
        if missing:
            raise InputError(f"the reference does not track foot {missing[0]!r}; retarget the motion again")
        self._feet = as_array([self.bank.body_names.index(name) for name in robot.foot_bodies])
        self._builder = ObservationBuilder(tracking_spec(self.num_joints), self._default)
        self._sampler = StartSampler(self.bank, backend, config.reset)
        foot_geoms = [model.geom(name).id for name in robot.foot_geoms]
        randomise_models(backend, config.randomisation, foot_geoms, self.num_joints)
        self._xp = backend.xp

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
        n, j = self.num_envs, self.num_joints
        izeros = self.backend.asarray(np.zeros(n, dtype=np.int64))
        self._clip, self._frame, self._hold, self._age = izeros, izeros, izeros, izeros
        self._delay, self._push_in = izeros, izeros
        action = self.backend.asarray(np.zeros((n, j)))
        self._action, self._last_action = action, action
        self._target = action
        self._bias = SensorBias(joint=action, odometry=self.backend.asarray(np.zeros((n, 3))))
        self._foot_pos = self.backend.asarray(np.zeros((n, self._feet.shape[0], 3)))
        everyone = Chosen(self.backend)
        self._restart(everyone)
        self._window = self._windows()
        frame, critic = self._observe(everyone, self._reference_bodies(everyone))
        self._history, policy = self._builder.push(self._builder.start_history(frame), frame)
        return {"policy": policy, "critic": critic}

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
        self._window = self._windows()

    def step(self, action: Array) -> StepResult:
        """Advance every environment by one control step.

        Args:
            action: Actions (N, J), float32.

        Raises:
            PhysicsError: The physics diverged; the message names the file with the state.
        """
        xp = self._xp
        target = action_to_target(action, self._window.joint_pos[:, 1], self._scale, self._lower, self._upper)
        self.backend.step(
            self._with_other_actuators(target), self._with_other_actuators(self._target), self._delay, self._substeps
        )
        self._target = target
        still = self._hold > 0
        self._frame = xp.where(still, self._frame, self._frame + 1)
        self._hold = xp.where(still, self._hold - 1, self._hold)
        self._age = self._age + 1
        self._push()
        self._guard.check(target=target, clip=self._clip, frame=self._frame)
        self._window = self._windows()
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
        everyone = Chosen(self.backend)
        frame, critic = self._observe(everyone, sample)
        self._history, policy = self._builder.push(self._history, frame)
        final_obs = {"critic": critic}
        if self._final_policy_obs:
            final_obs["policy"] = policy
        self._sampler.record(self._clip, self._frame, terminated)
        done = Chosen(self.backend, terminated | truncated)
        if not done.empty:
            policy, critic = self._begin(done, policy, critic)
        return StepResult(
            {"policy": policy, "critic": critic}, reward, terminated, failure, truncated, final_obs, body_error
        )

    def _begin(self, done: Chosen, policy: Array, critic: Array) -> tuple[Array, Array]:
        """Give the chosen a new episode; return the observations of all, theirs in place of the old ones."""
        self._restart(done)
        self._window = self._windows()
        frame, fresh_critic = self._observe(done, self._reference_bodies(done))
        history, fresh_policy = self._builder.push(self._builder.start_history(frame), frame)
        self._history = done.put(self._history, history)
        return done.put(policy, fresh_policy), done.put(critic, fresh_critic)

    def _with_other_actuators(self, target: Array) -> Array:
        others = self.backend.model.nu - self.num_joints
        if others == 0:
            return target
        zeros = self._xp.zeros_like(target[:, :1])
        return self._xp.concat([target, *([zeros] * others)], axis=-1)

    def _state(self) -> RobotState:
        """Return the true state of every robot."""
        qpos, qvel = self.backend.get_state()
        j = self.num_joints
        return RobotState(
            root_pos=qpos[:, :3],
            root_quat=qpos[:, 3:7],
            root_lin_vel=qvel[:, :3],
            root_ang_vel=qvel[:, 3:6],
            joint_pos=qpos[:, 7 : 7 + j],
            joint_vel=qvel[:, 6 : 6 + j],
        )

    def _windows(self) -> ReferenceWindow:
        """Return the reference now, and at the observation's offsets ahead of now."""
        return self.bank.window(self._clip, self._frame, self._offsets, self._hold > 0)

    def _sample(self, action: Array) -> TrackingSample:
        now, state = self._window, self._state()
        reference = self.bank.bodies(self.bank.index(self._clip, self._frame))
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
            ref_body_pos=reference.body_pos,
            ref_body_quat=reference.body_quat,
            ref_foot_pos=reference.body_pos[:, self._feet],
            ref_contact=reference.contact,
            action=action,
            last_action=self._action,
            second_last_action=self._last_action,
            joint_lower=self._lower,
            joint_upper=self._upper,
        )
        self._foot_pos = foot_pos
        return sample

    def _reference_bodies(self, chosen: Chosen) -> _Bodies:
        """Return the bodies of freshly reset environments: their poses are not computed yet, the reference's are."""
        place = self.bank.index(chosen.take(self._clip), chosen.take(self._frame))
        reference = self.bank.bodies(place)
        return _Bodies(reference.body_pos, reference.body_pos, reference.contact)

    def _observe(self, chosen: Chosen, bodies: _Bodies | TrackingSample) -> tuple[Array, Array]:
        """Return one frame (M, P) of the policy's observation as sensors see it, and the critic's (M, C) without noise.

        Args:
            chosen: The environments.
            bodies: Positions of their bodies and of the reference's, and which feet should stand.
        """
        xp, backend = self._xp, self.backend
        state, window = _rows(self._state(), chosen), _rows(self._window, chosen)
        ref = ReferenceWindow(**{name: values[:, 1:] for name, values in vars(window).items()})
        action, delay = chosen.take(self._action), chosen.take(self._delay)
        seen = noisy_state(backend, self.config.randomisation, state, _rows(self._bias, chosen))
        relative = xp.concat([bodies.ref_body_pos - bodies.body_pos, bodies.body_pos - state.root_pos[:, None]], axis=1)
        critic = [
            self._builder.frame(state, ref, action),
            heading_rotate_inv(state.root_quat, state.root_lin_vel),
            xp.reshape(heading_rotate_inv(state.root_quat[:, None], relative), (chosen.count, -1)),
            bodies.ref_contact,
            xp.astype(delay, xp.float32)[:, None],
        ]
        return self._builder.frame(seen, ref, action), xp.concat(critic, axis=-1)

    def _push(self) -> None:
        config = self.config.randomisation
        if config.push_speed == 0:
            return
        due = Chosen(self.backend, self._push_in <= 0)
        self._push_in = self._push_in - 1
        if due.empty:
            return
        qpos, qvel = (due.take(array) for array in self.backend.get_state())
        kick = symmetric(self.backend, config.push_speed, due.count, 2)
        due.set_state(qpos, self._xp.concat([qvel[:, :2] + kick, qvel[:, 2:]], axis=-1))
        self._push_in = due.put(self._push_in, self._draw_push(due.count))

    def _draw_push(self, count: int) -> Array:
        low, high = self.config.randomisation.push_interval_s
        steps = uniform(self.backend, low, high, count) * self.config.control_hz
        return self._xp.astype(steps, self._xp.int64)

    def _restart(self, chosen: Chosen) -> None:
        """Give the chosen environments a new episode; the others are left as they are."""
        xp, backend, bank = self._xp, self.backend, self.bank
        config, m, j = self.config.reset, chosen.count, self.num_joints
        clip, frame = self._sampler.draw(m)
        low, high = config.hold_s
        hold = xp.astype(uniform(backend, low, high, m) * self.config.control_hz, xp.int64)
        hold = xp.where(frame == 0, hold, xp.zeros_like(hold))
        low_delay, high_delay = self.config.randomisation.delay_substeps
        delay = low_delay + xp.astype(backend.random(m) * (high_delay - low_delay + 1), xp.int64)
        bias = SensorBias.draw(backend, self.config.randomisation, m, j)
        now = bank.window(clip, frame, self._offsets[:1], hold > 0)
        lift = xp.zeros_like(now.root_pos[:, 0, :1])
        shift = xp.concat([symmetric(backend, config.root_noise, m, 2), lift], axis=-1)
        turn = quat_from_rotvec(symmetric(backend, config.rot_noise, m, 3))
        joint_pos = now.joint_pos[:, 0] + symmetric(backend, config.joint_noise, m, j)
        joint_pos = xp.minimum(xp.maximum(joint_pos, self._lower), self._upper)
        qpos, qvel = (chosen.take(array) for array in backend.get_state())
        new_qpos = [now.root_pos[:, 0] + shift, quat_mul(now.root_quat[:, 0], turn), joint_pos]
        # What else moves on the stage goes back to where it rests.
        new_qpos.append(xp.zeros_like(qpos[:, 7 + j :]) + self._rest)
        new_qvel = [
            now.root_lin_vel[:, 0] + symmetric(backend, config.vel_noise, m, 3),
            now.root_ang_vel[:, 0] + symmetric(backend, config.vel_noise, m, 3),
            now.joint_vel[:, 0],
            xp.zeros_like(qvel[:, 6 + j :]),
        ]
        chosen.set_state(xp.concat(new_qpos, axis=-1), xp.concat(new_qvel, axis=-1))
        zeros, foot_pos = xp.zeros_like(joint_pos), bank.bodies(bank.index(clip, frame)).body_pos[:, self._feet]
        fresh = {
            "_clip": clip, "_frame": frame, "_hold": hold, "_age": xp.zeros_like(hold), "_delay": delay,
            "_push_in": self._draw_push(m), "_action": zeros, "_last_action": zeros, "_target": joint_pos,
            "_foot_pos": foot_pos,
        }  # fmt: skip
        for name, values in fresh.items():
            setattr(self, name, chosen.put(getattr(self, name), values))
        self._bias = SensorBias(
            joint=chosen.put(self._bias.joint, bias.joint), odometry=chosen.put(self._bias.odometry, bias.odometry)
        )


@dataclass(frozen=True)
class _Bodies:
    body_pos: Array
    ref_body_pos: Array
    ref_contact: Array


def _rows(arrays: Any, chosen: Chosen) -> Any:
    """Return a dataclass of arrays (N, ...) with the rows of the chosen."""
    return type(arrays)(**{name: chosen.take(values) for name, values in vars(arrays).items()})


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
