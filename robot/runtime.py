"""PolicyRuntime: from sensor messages to a joint command, one tick at a time; pure, so a replay repeats every bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from bodydouble.control import action_to_target
from bodydouble.errors import ContractError, InputError
from bodydouble.frames import quat_normalize
from bodydouble.motion import RobotMotion
from bodydouble.observation import ObservationBuilder, RobotState
from robot.command_input import CommandInput
from robot.engagement import RAMP_IN, RUN, Engagement, Ramps
from robot.policy_file import PolicyFile
from robot.reference_player import SKILLS, NoReference, ReferencePlayer
from robot.safety import SafetyConfig, SafetyFilter, SafetyInputs

INPUTS = ("joint_states", "imu", "odom")
"""Inputs a tick may consume, the latest of each; odom only where the policy's observation needs it."""
COMMANDS = (*SKILLS, "estop", "resume", "hold", "engage")
"""What can be asked for: a skill; the emergency stop and its release; to let go of the robot and to take hold again."""
EXPLAINED = ("estop", "refused")
"""What may carry a reason, as in `estop: REASON`. `refused: REASON` tells of an input that was not taken."""
GIVEN = ("command", "feet")
"""Inputs without a stamp, as in `command: [0.5, 0.0, 0.1]` and `feet: [1, 0]`: the last one before a tick counts."""
MAX_PENDING = 100
"""Largest number of requests between two ticks; an emergency stop is always taken."""
MAX_FEET = 64
"""Largest number of feet."""
MAX_JOINT_NAMES = 1000
"""Longest joint state that is read."""


@dataclass(frozen=True)
class TickResult:
    """What one tick consumed, decided and commands."""

    tick: int
    """Number of the tick."""
    t_ns: int
    """Time of the tick on the robot's clock, ns."""
    mode: str
    """waiting (for inputs, nothing is sent), stopped, or the phase: hold, ramp (in), run, ramp_out."""
    skill: str
    """Skill in force."""
    frame: int
    """Frame of the reference."""
    finished: bool
    """Whether the reference is at its end."""
    commands: tuple[str, ...]
    """What was asked for since the last tick and took effect in this one, in the form that `ask` takes."""
    heartbeat_age_s: float
    """Time since the operator's last heartbeat, s."""
    stamps: dict[str, int]
    """Stamp of the consumed message of each input, ns."""
    obs: np.ndarray | None
    """Observation (P,), float32; None where the policy was not asked: waiting, stopped, hold, ramp_out."""
    action: np.ndarray | None
    """Action (J,), float32."""
    command: np.ndarray | None
    """Joint targets (J,), rad, float64; None means that nothing is sent."""
    events: tuple[str, ...]
    """The safety layer's interventions and the inputs that were refused, each with its reason."""
    inputs: dict[str, dict[str, np.ndarray | None]]
    """What came since the last tick and was consumed, by input: `position` and `velocity` of the joints (J,) in the
    contract's order; `quat` (4,), wxyz, `gyro` (3,) and `acceleration` (3,) or None; `position` (3,) of the base. With
    it a tick can be repeated though the message itself was lost on its way to a recorder."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; numbers keep every bit."""
        out: dict[str, Any] = {}
        for name, value in vars(self).items():
            out[name] = value.tolist() if isinstance(value, np.ndarray) else value
        out["inputs"] = {
            source: {part: None if value is None else value.tolist() for part, value in parts.items()}
            for source, parts in self.inputs.items()
        }
        return out


class PolicyRuntime:
    """Runs one policy along one reference. J joints."""

    def __init__(self, policy: PolicyFile, reference: RobotMotion | None, safety: SafetyConfig | None = None) -> None:
        """Check that policy and reference fit.

        Args:
            policy: The policy.
            reference: The motion to follow; None, or unused, where the policy follows none.
            safety: Bounds of the safety layer.

        Raises:
            ContractError: The reference is for other joints or another rate than the policy, or the contract's
                observation cannot be built.
        """
        contract = policy.contract
        if contract.follows_reference:
            _check_reference(policy, reference)
        self.contract = contract
        self.policy = policy
        self.safety = SafetyFilter(contract, safety or SafetyConfig())
        default = np.array(contract.default_joint_pos, dtype=np.float32)
        try:
            follows = reference if contract.follows_reference else None
            self.player = NoReference() if follows is None else ReferencePlayer(follows, contract.reference_offsets)
            self._builder = ObservationBuilder(contract.spec, default)
            # Built once here: a term of a wrong size must not show itself on a running robot.
            command = np.zeros((1, len(contract.command_names)), dtype=np.float32)
            self._builder.frame(_rest(len(contract.joint_names)), self.player.window(), default[None], command)
        except InputError as error:
            raise ContractError(f"{policy.path}: {error}; export the policy again") from None
        self._default = default if contract.action_mode == "residual_default" else None
        self.inputs = tuple(
            name for name in INPUTS if name != "odom" or any(t.name == "ref_root_pos" for t in contract.observation)
        )
        """Inputs that this policy needs."""
        self.command_input = CommandInput(contract.command, self.safety.config.command_timeout_s)
        self._scale = np.array(contract.action_scale, dtype=np.float32)
        self._lower = np.array(contract.joint_lower, dtype=np.float32)
        self._upper = np.array(contract.joint_upper, dtype=np.float32)
        joints = len(contract.joint_names)
        self._names: tuple[str, ...] = ()
        self._order = np.zeros(0, dtype=np.int64)
        self._stamps: dict[str, int] = {}
        self._consumed: dict[str, dict[str, np.ndarray | None]] = {}
        self._joint_pos, self._joint_vel = np.zeros(joints), np.zeros(joints)
        self._quat, self._gyro, self._root_pos = np.array([1.0, 0, 0, 0]), np.zeros(3), np.zeros(3)
        self._last_action = np.zeros((1, joints), dtype=np.float32)
        self._history: np.ndarray | None = None
        self._memory = policy.empty_memory()
        self._pending: list[str] = []
        self._tick = 0
        self._heartbeat_age_s = 0.0
        self._acceleration: np.ndarray | None = None
        self._feet: tuple[bool, ...] | None = None
        self._feet_ns = 0
        self.engagement = Engagement()
        self._ramps = Ramps(
            rest=np.array(contract.default_joint_pos),
            max_step=np.array(contract.joint_velocity_limit) / contract.control_hz,
            control_hz=contract.control_hz,
        )

    def on_joint_state(self, stamp_ns: int, names: tuple[str, ...], position: np.ndarray, velocity: np.ndarray) -> None:
        """Take joint positions (n,) in rad and speeds (n,) in rad/s, mapped by name.

        Raises:
            ContractError: A joint of the contract is missing or named twice, or the arrays' lengths differ.
        """
        if not self._newer("joint_states", stamp_ns):
            return
        if names != self._names:
            self._map(names)
        if len(position) != len(names) or len(velocity) != len(names):
            raise ContractError(
                f"joint state has {len(names)} names, {len(position)} positions and {len(velocity)} speeds; "
                "the policy needs all three"
            )
        self._joint_pos, self._joint_vel = np.asarray(position)[self._order], np.asarray(velocity)[self._order]
        self._took("joint_states", stamp_ns, position=self._joint_pos, velocity=self._joint_vel)

    def on_imu(self, stamp_ns: int, quat: np.ndarray, gyro: np.ndarray, acceleration: np.ndarray | None = None) -> None:
        """Take the base's orientation (4,), wxyz, angular velocity (3,), base frame, rad/s, and accelerometer (3,).

        The accelerometer reads gravity upwards when at rest, m/s^2; None where the IMU has none.

        Raises:
            ContractError: The safety layer is to look at an accelerometer that is not there.
        """
        if acceleration is None and self.safety.config.free_fall_s > 0:
            raise ContractError("imu has no accelerometer, which safety bound free_fall_s needs")
        if not self._newer("imu", stamp_ns):
            return
        self._quat, self._gyro = np.asarray(quat, dtype=np.float64), np.asarray(gyro, dtype=np.float64)
        self._acceleration = None if acceleration is None else np.asarray(acceleration, dtype=np.float64)
        self._took("imu", stamp_ns, quat=self._quat, gyro=self._gyro, acceleration=self._acceleration)

    def on_odom(self, stamp_ns: int, position: np.ndarray) -> None:
        """Take the base's position (3,), world, m."""
        if "odom" not in self.inputs or not self._newer("odom", stamp_ns):
            return
        self._root_pos = np.asarray(position, dtype=np.float64)
        self._took("odom", stamp_ns, position=self._root_pos)

    def _took(self, source: str, stamp_ns: int, **values: np.ndarray | None) -> None:
        self._stamps[source], self._consumed[source] = stamp_ns, values

    def ask(self, command: str) -> None:
        """Ask for one of COMMANDS, tell of a refused input, or give an input of GIVEN; the next tick obeys.

        Args:
            command: The command; those of EXPLAINED may be followed by a colon, a space and a reason, those of GIVEN
                must be by their values.

        Raises:
            ContractError: The command is unknown, its values have a wrong form, or too many wait.
        """
        name, colon, values = command.partition(": ")
        if name in GIVEN and colon:
            self._check_given(name, values)
            # Only the last one counts, however many come between two ticks.
            self._pending = [waiting for waiting in self._pending if not waiting.startswith(f"{name}: ")] + [command]
            return
        if name not in (*COMMANDS, "refused") or bool(colon) > (name in EXPLAINED):
            raise ContractError(f"command {command!r} is unknown; known commands: {', '.join(COMMANDS)}")
        if name == "estop":
            # One is enough, and there is always room for one.
            if not any(waiting.startswith("estop") for waiting in self._pending):
                self._pending.append(command)
            return
        if len(self._pending) >= MAX_PENDING:
            raise ContractError(f"command {command!r} is the {MAX_PENDING + 1}th since the last tick; ask more slowly")
        self._pending.append(command)

    def _check_given(self, name: str, values: str) -> None:
        if name == "command":
            self.command_input.check(values)
        else:
            _feet(values)

    def refuse(self, source: str, reason: str) -> None:
        """Tell of an input message that was not taken; one per input and tick is told."""
        text = f"refused: {source}: "
        if len(self._pending) < MAX_PENDING and not any(waiting.startswith(text) for waiting in self._pending):
            self.ask(text + reason)

    @property
    def next_tick(self) -> int:
        """Number of the next tick: the first that obeys what is asked for now."""
        return self._tick

    @property
    def stamps(self) -> dict[str, int]:
        """Stamp of the last message of each input, ns."""
        return dict(self._stamps)

    def rehearse(self) -> None:
        """Think once on the present inputs and forget it, so that network and code are in the caches at the next tick.

        After 20 ms of something else a tick takes twice as long as right after another. Nothing that a tick depends on
        changes.
        """
        if self._oldest_ns() is None or self.safety.stopped or not self.engagement.asks_policy:
            return
        kept = self._history, self._memory, self._last_action
        self._think(np.zeros((1, len(self.contract.command_names)), dtype=np.float32))
        self._history, self._memory, self._last_action = kept

    def tick(self, t_ns: int, heartbeat_age_s: float = 0.0) -> TickResult:
        """Decide on the command of one control step.

        Args:
            t_ns: Time on the robot's clock, the one the inputs' stamps are from, ns.
            heartbeat_age_s: Time since the operator's last heartbeat, s.
        """
        asked, self._pending = tuple(self._pending), []
        consumed, self._consumed = self._consumed, {}
        told = tuple(event for command in asked for event in self._obey(command, t_ns))
        number, self._tick = self._tick, self._tick + 1
        self._heartbeat_age_s = heartbeat_age_s
        frame, skill = self.player.frame, self.player.skill
        oldest = self._oldest_ns()
        if oldest is None:
            return self._result(number, t_ns, "waiting", skill, frame, asked, events=told, inputs=consumed)
        obs = action = target = None
        bad = self._not_finite()
        if bad:
            self.safety.stop(f"an input is not finite: {bad}")
        if not self.safety.stopped:
            asks = self.engagement.asks_policy
            if asks:
                command, events = self.command_input.at(t_ns, resting=self.player.still)
                told += events
                obs, action, target = self._think(command)
                if not np.isfinite(action).all():
                    self.safety.stop("an action of the policy is not finite")
            self.engagement, target = self.engagement.advance(
                target, self._joint_pos, self.safety.last_command, self._ramps
            )
        acceleration = self._acceleration
        decision = self.safety.filter(
            SafetyInputs(
                target=target,
                joint_pos=self._joint_pos,
                joint_vel=self._joint_vel,
                tilt=self._tilt(),
                input_age_s=(t_ns - oldest) / 1e9,
                input_lead_s=(max(self._stamps.values()) - t_ns) / 1e9,
                heartbeat_age_s=heartbeat_age_s,
                feet_in_contact=self._feet,
                base_acceleration=None if acceleration is None else float(np.linalg.norm(acceleration)),
            )
        )
        mode = "stopped" if decision.stopped else self.engagement.phase
        if mode in (RAMP_IN, RUN):
            self.player.advance()
        return self._result(
            number, t_ns, mode, skill, frame, asked, obs=obs, action=action, command=decision.command,
            events=told + decision.events, inputs=consumed,
        )  # fmt: skip

    def _obey(self, command: str, t_ns: int) -> tuple[str, ...]:
        """Do what was asked for; return what is to be told of it."""
        name, _, detail = command.partition(": ")
        if name == "estop":
            self.safety.stop(f"emergency stop: {detail}" if detail else "emergency stop")
        elif name == "resume":
            self.safety.resume()
            self._engage(Engagement())
        elif name == "hold":
            self.engagement = self.engagement.release()
        elif name == "engage":
            self._engage(self.engagement.engage())
        elif name == "command":
            return self.command_input.give(self.command_input.check(detail), t_ns)
        elif name == "feet":
            self._feet, self._feet_ns = _feet(detail), t_ns
        elif name == "refused":
            return (command,)
        else:
            self.player.select(name)
        return ()

    def _oldest_ns(self) -> int | None:
        """Return the time of the oldest input that a tick needs, None while one has not come yet."""
        if not self.command_input.known or any(name not in self._stamps for name in self.inputs):
            return None
        times = list(self._stamps.values())
        if self.safety.config.contact_loss_s > 0:
            if self._feet is None:
                return None
            times.append(self._feet_ns)
        return min(times)

    def _engage(self, engagement: Engagement) -> None:
        if engagement is not self.engagement:
            # The policy begins anew: what it saw and did before it let go says nothing about now.
            self._history = None
            self._memory = self.policy.empty_memory()
            self._last_action = np.zeros_like(self._last_action)
        self.engagement = engagement

    def _newer(self, source: str, stamp_ns: int) -> bool:
        """Return whether a message is newer than the last one; an older one is told, a repeated one is not taken.

        While the robot is stopped any message is taken: a clock that was set back must not silence an input for good.
        """
        last = self._stamps.get(source)
        if last is None or stamp_ns > last or (self.safety.stopped and stamp_ns != last):
            return True
        if stamp_ns < last:
            self.refuse(source, f"stamped {(last - stamp_ns) / 1e6:.1f} ms before the last one")
        return False

    def _think(self, command: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        state = RobotState(
            root_pos=self._root_pos[None].astype(np.float32),
            root_quat=quat_normalize(self._quat)[None].astype(np.float32),
            root_lin_vel=np.zeros((1, 3), dtype=np.float32),
            root_ang_vel=self._gyro[None].astype(np.float32),
            joint_pos=self._joint_pos[None].astype(np.float32),
            joint_vel=self._joint_vel[None].astype(np.float32),
        )
        window = self.player.window()
        frame = self._builder.frame(state, window, self._last_action, command)
        if self._history is None:
            self._history = self._builder.start_history(frame)
        self._history, obs = self._builder.push(self._history, frame)
        action, self._memory = self.policy.step(obs[0], self._memory)
        self._last_action = np.nan_to_num(action, nan=0.0, posinf=0.0, neginf=0.0)[None]
        if self._default is not None:
            base = self._default
        else:
            assert window is not None  # the contract follows a reference
            base = window.joint_pos[0, 0]
        target = action_to_target(action, base, self._scale, self._lower, self._upper)
        return obs[0], action, target.astype(np.float64)

    def _not_finite(self) -> str:
        """Return which inputs hold a value that is not finite, or an orientation of no length."""
        inputs = {
            "joint_states": (self._joint_pos, self._joint_vel),
            "imu": (self._quat, self._gyro),
            "odom": (self._root_pos,),
        }
        bad = [name for name, arrays in inputs.items() if not all(np.isfinite(array).all() for array in arrays)]
        if not bad and not float(np.abs(self._quat).max()) > 0.1:
            bad = ["imu"]
        return ", ".join(bad)

    def _tilt(self) -> float:
        # A NaN orientation gives NaN, which the safety layer takes for a fall.
        norm = float(self._quat @ self._quat)
        if not norm > 0.01:
            return float("nan")
        _, x, y, _ = self._quat
        return float(np.arccos(np.clip(1 - 2 * (x * x + y * y) / norm, -1.0, 1.0)))

    def _map(self, names: tuple[str, ...]) -> None:
        if len(names) > MAX_JOINT_NAMES:
            raise ContractError(f"joint state names {len(names)} joints, at most {MAX_JOINT_NAMES} are read")
        for joint in self.contract.joint_names:
            if names.count(joint) != 1:
                raise ContractError(f"joint state names joint {joint} {names.count(joint)} times, expected once")
        self._order = np.array([names.index(joint) for joint in self.contract.joint_names])
        self._names = names

    def _result(
        self, number: int, t_ns: int, mode: str, skill: str, frame: int, asked: tuple[str, ...], **found: Any
    ) -> TickResult:
        values: dict[str, Any] = {"obs": None, "action": None, "command": None, "events": ()} | found
        return TickResult(
            tick=number, t_ns=t_ns, mode=mode, skill=skill, frame=frame, finished=self.player.finished, commands=asked,
            heartbeat_age_s=self._heartbeat_age_s, stamps=dict(self._stamps), **values,
        )  # fmt: skip


def _check_reference(policy: PolicyFile, reference: RobotMotion | None) -> None:
    contract = policy.contract
    if reference is None:
        raise ContractError(f"{policy.path}: follows a reference motion, and there is none; give the stage's reference")
    if reference.joint_names != contract.joint_names:
        raise ContractError(f"{policy.path}: its joints are not the reference's; build the stage for its robot")
    if reference.fps != contract.control_hz:
        raise ContractError(
            f"{policy.path}: runs at {contract.control_hz} Hz, the reference is at {reference.fps}; resample it"
        )


def _feet(text: str) -> tuple[bool, ...]:
    """Read the feet's contact flags."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or not 0 < len(values) <= MAX_FEET or not all(type(v) is int for v in values):
        raise ContractError(f"feet are {text[:60]}, expected 1 to {MAX_FEET} whole numbers, 0 without contact")
    return tuple(value != 0 for value in values)


def _rest(joints: int) -> RobotState:
    """Return a state of the right shapes: upright at the origin, joints at zero."""
    three, zeros = np.zeros((1, 3), dtype=np.float32), np.zeros((1, joints), dtype=np.float32)
    upright = np.array([[1, 0, 0, 0]], dtype=np.float32)
    return RobotState(three, upright, three, three, zeros, zeros)
