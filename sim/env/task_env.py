"""TaskEnv: N robots at a task that follows no reference, on any backend, without a Python loop over environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodydouble.control import action_to_target
from bodydouble.errors import InputError
from bodydouble.observation import ObservationBuilder, ObservationSpec, RobotState
from bodydouble.randomisation import RandomisedTerm
from sim.backend.protocol import SimBackend
from sim.env.chosen import Chosen
from sim.env.controlled_robot import JointIndex
from sim.env.guard import DivergenceGuard
from sim.env.model_randomiser import randomise_models
from sim.env.sensors import Sensors
from sim.env.task import Task, World
from sim.env.tracking_env import substeps_per_control

Array = Any


@dataclass(frozen=True)
class TaskStep:
    """What a control step returned. Arrays of the backend, N environments."""

    obs: dict[str, Array]
    """Observations to act on next: "policy" (N, P) as sensors see it, "critic" (N, C) without noise."""
    reward: Array
    """Rewards (N,)."""
    terminated: Array
    """Episodes that failed (N,), bool."""
    failure: Array
    """Why they failed (N,): 0 they did not, k the task's k-th termination, counted from 1."""
    truncated: Array
    """Episodes that ran out of time (N,), bool; their value must be bootstrapped from `final_obs`."""
    final_obs: dict[str, Array]
    """Observations at the end of this step, before any environment was reset; "critic", and "policy" if asked for."""
    measures: dict[str, Array]
    """The task's figures of this step (N,) by name."""
    rewards: Array | None = None
    """Rewards of the groups (N, G), whose sum is `reward`; None where the environment has none."""


class TaskEnv:
    """N robots at a task. An action is an offset from the default pose (contract mode `residual_default`)."""

    def __init__(
        self,
        backend: SimBackend,
        task: Task,
        dump: Path = Path("nan_state.npz"),
        final_policy_obs: bool = True,
        spread: bool = False,
        reward_groups: Sequence[Sequence[str]] = (),
    ) -> None:
        """Set the environments up; call `reset` before the first step.

        Args:
            backend: The simulations of `task.model`.
            task: The task.
            dump: File that receives the state when the physics diverges.
            final_policy_obs: Whether `final_obs` holds the policy's observation too; PPO needs only the critic's.
            spread: Whether `reset` gives each episode an age of its own, so that they do not all end at once and each
                batch of a training sees every part of an episode.
            reward_groups: Names of the rewards of each group that a value function of its own is to learn; those
                named in none are a further group.

        Raises:
            InputError: The control step is no multiple of the physics step, an episode is shorter than one, the
                randomisation cannot be applied, or a group names what is no reward of the task, or one twice.
        """
        robot = task.robot
        self.backend, self.task, self.robot = backend, task, robot
        self.num_envs, self.num_joints = backend.num_envs, robot.num_joints
        self.step_s = 1.0 / task.control_hz
        self._substeps = substeps_per_control(task.control_hz, backend.model.opt.timestep)
        self._latency = task.randomisation.term("action_latency")
        if self._latency is not None and self._latency.distribution.support[1] > self._substeps:
            raise InputError(
                f"task {task.name}: an action is late by up to {self._latency.distribution.support[1]:g} physics "
                f"steps, a control step has {self._substeps}; declare a shorter latency"
            )
        self._push_term = self._checked_push(task)
        self._last_step = round(task.episode_s * task.control_hz)
        if self._last_step < 1:
            raise InputError(f"task {task.name}: an episode of {task.episode_s} s is shorter than a control step")
        self._final_policy_obs, self._spread = final_policy_obs, spread
        as_array = backend.asarray
        self._default = as_array(robot.default_joint_pos)
        self._scale, self._ctrl_factor = as_array(robot.action_scale), as_array(robot.control_per_rad)
        self._lower, self._upper = as_array(robot.joint_lower), as_array(robot.joint_upper)
        self._index = JointIndex(backend, robot)
        self._builder = ObservationBuilder(task.observation, self._default)
        self._sensors = Sensors(backend, task.randomisation)
        self._guard = DivergenceGuard(backend, dump)
        randomise_models(backend, task.randomisation, robot)
        self._task = task.bind(backend)
        self._groups = _groups(task.name, tuple(self._task.rewards), reward_groups)
        self._xp = backend.xp
        self._own: dict[str, Array] = {}
        self._memory: dict[str, Array] = {}
        self._sensed: dict[str, Array] = {}

    @staticmethod
    def _checked_push(task: Task) -> RandomisedTerm | None:
        term = task.randomisation.term("push", "base")
        if term is None:
            return None
        if not task.robot.floating_base:
            raise InputError(f"task {task.name}: robot {task.robot.name} stands fixed and cannot be pushed")
        if term.interval_s is None or term.how != "add":
            raise InputError(f"task {task.name}: pushes are added, at intervals; declare them so")
        return term

    @property
    def spec(self) -> ObservationSpec:
        """The policy observation's terms."""
        return self._builder.spec

    @property
    def num_groups(self) -> int:
        """Number of groups of rewards."""
        return len(self._groups)

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the task's terminations; `TaskStep.failure` counts them from 1."""
        return tuple(self._task.terminations)

    def reset(self) -> dict[str, Array]:
        """Start every environment anew and return its observations."""
        self._own, self._memory, self._sensed = {}, {}, {}
        self._restart(Chosen(self.backend))
        if self._spread:
            ages = self.backend.random(self.num_envs) * self._last_step
            self._own["age"] = self._xp.astype(ages, self._xp.int64)
        state = self._state(*self.backend.get_state())
        frame = self._frame(state)
        self._own["history"], policy = self._builder.push(self._builder.start_history(frame), frame)
        return {"policy": policy, "critic": self._critic(state)}

    def snapshot(self) -> dict[str, Array] | None:
        """Return what the coming steps depend on, by name; None where the backend cannot say it.

        The models' randomisation is not in it: it follows from the seed that the environment was built with.
        """
        if not hasattr(self.backend, "snapshot"):
            return None
        groups = {"own": self._own, "memory": self._memory, "sensed": self._sensed}
        groups["backend"] = self.backend.snapshot()  # type: ignore[attr-defined]
        return {f"{group}.{name}": array for group, arrays in groups.items() for name, array in arrays.items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from what `snapshot` returned, in an environment built from the same arguments."""
        groups: dict[str, dict[str, Array]] = {"own": {}, "memory": {}, "sensed": {}, "backend": {}}
        for key, array in state.items():
            group, name = key.split(".", 1)
            groups[group][name] = array
        self._own, self._memory, self._sensed = groups["own"], groups["memory"], groups["sensed"]
        self.backend.restore(groups["backend"])  # type: ignore[attr-defined]

    def step(self, action: Array) -> TaskStep:
        """Advance every environment by one control step.

        Args:
            action: Actions (N, J), float32.

        Raises:
            PhysicsError: The physics diverged; the message names the file with the state.
        """
        xp, own = self._xp, self._own
        target = action_to_target(action, self._default, self._scale, self._lower, self._upper)
        self.backend.step(self._control(target), self._control(own["target"]), own["latency"], self._substeps)
        own["target"], own["age"] = target, own["age"] + 1
        self._push()
        self._guard.check(target=target)
        qpos, qvel = self.backend.get_state()
        state = self._state(qpos, qvel)
        world = World(
            state=state, qpos=qpos, qvel=qvel, body_pos=self.backend.body_pos(), body_quat=self.backend.body_quat(),
            action=action, last_action=own["action"],
        )  # fmt: skip
        own["action"] = action
        sample = self._task.sample(world, self._memory)
        failure = self._cause(sample)
        terminated = failure > 0
        truncated = ~terminated & (own["age"] >= self._last_step)
        rewards = [self._reward(sample, names) for names in self._groups]
        measures = self._task.measures(sample)
        self._memory = self._task.after(sample, self._memory)
        self._sensed = self._sensors.remember(self._sensed, state)
        final_obs = {"critic": self._critic(state)}
        if self._final_policy_obs:
            _, final_obs["policy"] = self._builder.push(own["history"], self._frame(state))
        done = terminated | truncated
        chosen = Chosen(self.backend, done)
        if not chosen.empty:
            self._restart(chosen)
            state = self._state(*self.backend.get_state())
            frame = self._frame(state)
            history = xp.where(done[:, None, None], self._builder.start_history(frame), own["history"])
        else:
            frame, history = self._frame(state), own["history"]
        own["history"], policy = self._builder.push(history, frame)
        obs = {"policy": policy, "critic": self._critic(state)}
        grouped = xp.stack(rewards, axis=-1) if len(rewards) > 1 else None
        return TaskStep(obs, sum(rewards), terminated, failure, truncated, final_obs, measures, grouped)

    def _control(self, target: Array) -> Array:
        control = target * self._ctrl_factor
        others = self.backend.model.nu - self.num_joints
        if others == 0:
            return control
        return self._xp.concat([control, *([self._xp.zeros_like(target[:, :1])] * others)], axis=-1)

    def _state(self, qpos: Array, qvel: Array) -> RobotState:
        joint_pos, joint_vel = qpos[:, self._index.qpos], qvel[:, self._index.qvel]
        if self.robot.floating_base:
            return RobotState(qpos[:, :3], qpos[:, 3:7], qvel[:, :3], qvel[:, 3:6], joint_pos, joint_vel)
        zero = self._xp.zeros_like(qpos[:, :3])
        upright = self._xp.concat([zero[:, :1] + 1.0, zero], axis=-1)
        return RobotState(zero, upright, zero, zero, joint_pos, joint_vel)

    def _command(self) -> Array:
        return self._task.command(self.backend.get_state()[0], self._memory)

    def _frame(self, state: RobotState) -> Array:
        """Return one frame (N, F) of the policy's observation, as sensors see it."""
        seen = self._sensors.read(self._sensed, state)
        return self._builder.frame(seen, None, self._own["action"], self._command())

    def _critic(self, state: RobotState) -> Array:
        """Return the critic's observation (N, C): the policy's without noise or delay, and what only it may see."""
        xp = self._xp
        latency = xp.astype(self._own["latency"], xp.float32)[:, None]
        frame = self._builder.frame(state, None, self._own["action"], self._command())
        return xp.concat([frame, self._task.critic(state, self._memory), latency], axis=-1)

    def _cause(self, sample: Any) -> Array:
        xp = self._xp
        result = xp.zeros_like(self._own["age"])
        for index, holds in reversed(list(enumerate(self._task.terminations.values(), 1))):
            result = xp.where(holds(sample), index, result)
        return result

    def _reward(self, sample: Any, names: tuple[str, ...]) -> Array:
        rewards = (self._task.rewards[name] for name in names)
        return sum(reward.weight * reward.function(sample) for reward in rewards) * self.step_s

    def _push(self) -> None:
        term = self._push_term
        if term is None:
            return
        xp, own = self._xp, self._own
        due = own["push_in"] <= 0
        if self.backend.device != "cpu" or bool(xp.any(due)):
            qpos, qvel = self.backend.get_state()
            kick = term.draw(self.backend, self.num_envs, 2) + xp.zeros_like(qvel[:, :2])
            added = xp.concat([kick, xp.zeros_like(qvel[:, 2:])], axis=-1)
            self.backend.set_state(qpos, xp.where(due[:, None], qvel + added, qvel))
            own["push_in"] = xp.where(due, self._draw_push(self.num_envs), own["push_in"])
        own["push_in"] = own["push_in"] - 1

    def _draw_push(self, count: int) -> Array:
        assert self._push_term is not None and self._push_term.interval_s is not None
        seconds = self._push_term.interval_s.sample(self.backend, count)
        return self._xp.astype(seconds * self.task.control_hz, self._xp.int64)

    def _restart(self, chosen: Chosen) -> None:
        """Give the chosen environments a new episode; the others are left as they are."""
        xp, backend, count = self._xp, self.backend, chosen.count
        start = self._task.begin(count)
        chosen.set_state(start.qpos, start.qvel)
        state = self._state(start.qpos, start.qvel)
        zeros = xp.zeros(count, dtype=xp.int64, device=state.joint_pos.device)
        own = {"age": zeros, "latency": zeros, "action": xp.zeros_like(state.joint_pos), "target": state.joint_pos}
        if self._latency is not None:
            own["latency"] = xp.astype(self._latency.draw(backend, count, 1)[:, 0], xp.int64)
        if self._push_term is not None:
            own["push_in"] = self._draw_push(count)
        self._own |= _put(chosen, self._own, own)
        self._memory = _put(chosen, self._memory, start.memory)
        self._sensed = _put(chosen, self._sensed, self._sensors.begin(state))


def _groups(task: str, names: tuple[str, ...], groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the rewards of each group, all in one where none are asked for."""
    named = [name for group in groups for name in group]
    wrong = [name for name in named if name not in names or named.count(name) > 1]
    if wrong or not all(groups):
        what = f"names {wrong[0]!r}" if wrong else "holds an empty one"
        raise InputError(
            f"task {task}: reward_groups {what}, expected each of its rewards once at most: {', '.join(names)}"
        )
    rest = tuple(name for name in names if name not in named)
    return (*map(tuple, groups), *([rest] if rest else []))


def _put(chosen: Chosen, old: dict[str, Array], fresh: dict[str, Array]) -> dict[str, Array]:
    return {name: chosen.put(old[name], array) if name in old else array for name, array in fresh.items()}
