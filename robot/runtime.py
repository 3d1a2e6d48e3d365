"""PolicyRuntime: from sensor messages to a joint command, one tick at a time; pure, so a replay repeats every bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bodydouble.control import action_to_target
from bodydouble.errors import ContractError, InputError
from bodydouble.frames import quat_normalize
from bodydouble.motion import RobotMotion
from bodydouble.observation import ObservationBuilder, RobotState
from robot.policy_file import PolicyFile
from robot.reference_player import SKILLS, ReferencePlayer
from robot.safety import SafetyConfig, SafetyFilter, SafetyInputs

INPUTS = ("joint_states", "imu", "odom")
"""Inputs a tick consumes, the latest of each."""
RAMP_S = 0.3
"""Time over which the first commands go from the measured pose to the policy's, s."""
COMMANDS = (*SKILLS, "estop", "resume")
"""What an operator or an orchestrator can ask for."""


@dataclass(frozen=True)
class TickResult:
    """What one tick consumed, decided and commands."""

    tick: int
    """Number of the tick."""
    t_ns: int
    """Time of the tick on the robot's clock, ns."""
    mode: str
    """waiting (for inputs, nothing is sent), ramp, run or stopped."""
    skill: str
    """Skill in force."""
    frame: int
    """Frame of the reference."""
    finished: bool
    """Whether the reference is at its end."""
    commands: tuple[str, ...]
    """Skills and stops that were asked for since the last tick and took effect in this one."""
    heartbeat_age_s: float
    """Time since the operator's last heartbeat, s."""
    stamps: dict[str, int]
    """Stamp of the consumed message of each input, ns."""
    obs: np.ndarray | None
    """Observation (P,), float32; None while waiting or stopped."""
    action: np.ndarray | None
    """Action (J,), float32."""
    command: np.ndarray | None
    """Joint targets (J,), rad, float64; None means that nothing is sent."""
    events: tuple[str, ...]
    """The safety layer's interventions."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; numbers keep every bit."""
        out: dict[str, Any] = {}
        for name, value in vars(self).items():
            out[name] = [float(x) for x in value] if isinstance(value, np.ndarray) else value
        return out


class PolicyRuntime:
    """Runs one policy along one reference. J joints."""

    def __init__(self, policy: PolicyFile, reference: RobotMotion, safety: SafetyConfig | None = None) -> None:
        """Check that policy and reference fit.

        Raises:
            ContractError: The reference is for other joints or another rate than the policy, or the contract's
                observation cannot be built.
        """
        contract = policy.contract
        if reference.joint_names != contract.joint_names:
            raise ContractError(f"{policy.path}: its joints are not the reference's; build the stage for its robot")
        if reference.fps != contract.control_hz:
            raise ContractError(
                f"{policy.path}: runs at {contract.control_hz} Hz, the reference is at {reference.fps}; resample it"
            )
        self.contract = contract
        self._policy = policy
        self.safety = SafetyFilter(contract, safety or SafetyConfig())
        default = np.array(contract.default_joint_pos, dtype=np.float32)
        try:
            self.player = ReferencePlayer(reference, contract.reference_offsets)
            self._builder = ObservationBuilder(contract.spec, default)
            # Built once here: a term of a wrong size must not show itself on a running robot.
            self._builder.frame(_rest(len(contract.joint_names)), self.player.window(), default[None])
        except InputError as error:
            raise ContractError(f"{policy.path}: {error}; export the policy again") from None
        self._scale = np.array(contract.action_scale, dtype=np.float32)
        self._lower = np.array(contract.joint_lower, dtype=np.float32)
        self._upper = np.array(contract.joint_upper, dtype=np.float32)
        joints = len(contract.joint_names)
        self._names: tuple[str, ...] = ()
        self._order = np.zeros(0, dtype=np.int64)
        self._stamps: dict[str, int] = {}
        self._joint_pos, self._joint_vel = np.zeros(joints), np.zeros(joints)
        self._quat, self._gyro, self._root_pos = np.array([1.0, 0, 0, 0]), np.zeros(3), np.zeros(3)
        self._last_action = np.zeros((1, joints), dtype=np.float32)
        self._history: np.ndarray | None = None
        self._pending: list[str] = []
        self._tick = 0
        self._heartbeat_age_s = 0.0
        self._ramp_from: np.ndarray | None = None
        self._ramped = 0

    def on_joint_state(self, stamp_ns: int, names: tuple[str, ...], position: np.ndarray, velocity: np.ndarray) -> None:
        """Take joint positions (n,) in rad and speeds (n,) in rad/s, mapped by name.

        Raises:
            ContractError: A joint of the contract is missing or named twice, or the arrays' lengths differ.
        """
        if names != self._names:
            self._map(names)
        if len(position) != len(names) or len(velocity) != len(names):
            raise ContractError(
                f"joint state has {len(names)} names, {len(position)} positions and {len(velocity)} speeds; "
                "the policy needs all three"
            )
        self._joint_pos, self._joint_vel = np.asarray(position)[self._order], np.asarray(velocity)[self._order]
        self._stamps["joint_states"] = stamp_ns

    def on_imu(self, stamp_ns: int, quat: np.ndarray, gyro: np.ndarray) -> None:
        """Take the base's orientation (4,), wxyz, and angular velocity (3,), base frame, rad/s."""
        self._quat, self._gyro = np.asarray(quat, dtype=np.float64), np.asarray(gyro, dtype=np.float64)
        self._stamps["imu"] = stamp_ns

    def on_odom(self, stamp_ns: int, position: np.ndarray) -> None:
        """Take the base's position (3,), world, m."""
        self._root_pos = np.asarray(position, dtype=np.float64)
        self._stamps["odom"] = stamp_ns

    def ask(self, command: str) -> None:
        """Ask for a skill, an emergency stop or its release; it takes effect in the next tick.

        Raises:
            ContractError: The command is unknown.
        """
        if command not in COMMANDS:
            raise ContractError(f"command {command!r} is unknown; known commands: {', '.join(COMMANDS)}")
        self._pending.append(command)

    def tick(self, t_ns: int, heartbeat_age_s: float = 0.0) -> TickResult:
        """Decide on the command of one control step.

        Args:
            t_ns: Time on the robot's clock, the one the inputs' stamps are from, ns.
            heartbeat_age_s: Time since the operator's last heartbeat, s.
        """
        asked, self._pending = tuple(self._pending), []
        for command in asked:
            if command == "estop":
                self.safety.stop("emergency stop")
            elif command == "resume":
                self.safety.resume()
                self._ramp_from = None
            else:
                self.player.select(command)
        number, self._tick = self._tick, self._tick + 1
        self._heartbeat_age_s = heartbeat_age_s
        frame, skill = self.player.frame, self.player.skill
        if len(self._stamps) < len(INPUTS):
            return self._result(number, t_ns, "waiting", skill, frame, asked)
        obs = action = target = None
        if not self._finite():
            self.safety.stop("an input is not finite")
        if not self.safety.stopped:
            obs, action, target = self._think()
            if not np.isfinite(action).all():
                self.safety.stop("an action of the policy is not finite")
        decision = self.safety.filter(
            SafetyInputs(
                target=target,
                joint_pos=self._joint_pos,
                joint_vel=self._joint_vel,
                tilt=self._tilt(),
                input_age_s=(t_ns - min(self._stamps.values())) / 1e9,
                input_lead_s=(max(self._stamps.values()) - t_ns) / 1e9,
                heartbeat_age_s=heartbeat_age_s,
            )
        )
        mode = "stopped" if decision.stopped else "ramp" if self._ramping else "run"
        if mode != "stopped":
            self.player.advance()
        return self._result(
            number, t_ns, mode, skill, frame, asked, obs=obs, action=action, command=decision.command,
            events=decision.events,
        )  # fmt: skip

    def _think(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        state = RobotState(
            root_pos=self._root_pos[None].astype(np.float32),
            root_quat=quat_normalize(self._quat)[None].astype(np.float32),
            root_lin_vel=np.zeros((1, 3), dtype=np.float32),
            root_ang_vel=self._gyro[None].astype(np.float32),
            joint_pos=self._joint_pos[None].astype(np.float32),
            joint_vel=self._joint_vel[None].astype(np.float32),
        )
        window = self.player.window()
        frame = self._builder.frame(state, window, self._last_action)
        if self._history is None:
            self._history = self._builder.start_history(frame)
        self._history, obs = self._builder.push(self._history, frame)
        action = self._policy.act(obs[0])
        self._last_action = np.nan_to_num(action, nan=0.0, posinf=0.0, neginf=0.0)[None]
        target = action_to_target(action, window.joint_pos[0, 0], self._scale, self._lower, self._upper)
        return obs[0], action, self._ramp(target.astype(np.float64))

    def _ramp(self, target: np.ndarray) -> np.ndarray:
        if self._ramp_from is None:
            self._ramp_from, self._ramped = self._joint_pos.copy(), 0
        self._ramped += 1
        share = min(1.0, self._ramped / (RAMP_S * self.contract.control_hz))
        return (1 - share) * self._ramp_from + share * target

    @property
    def _ramping(self) -> bool:
        return self._ramped < RAMP_S * self.contract.control_hz

    def _finite(self) -> bool:
        arrays = (self._joint_pos, self._joint_vel, self._quat, self._gyro, self._root_pos)
        return all(bool(np.isfinite(array).all()) for array in arrays) and float(np.abs(self._quat).max()) > 0.1

    def _tilt(self) -> float:
        # A NaN orientation gives NaN, which the safety layer takes for a fall.
        norm = float(self._quat @ self._quat)
        if not norm > 0.01:
            return float("nan")
        _, x, y, _ = self._quat
        return float(np.arccos(np.clip(1 - 2 * (x * x + y * y) / norm, -1.0, 1.0)))

    def _map(self, names: tuple[str, ...]) -> None:
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


def _rest(joints: int) -> RobotState:
    """Return a state of the right shapes: upright at the origin, joints at zero."""
    three, zeros = np.zeros((1, 3), dtype=np.float32), np.zeros((1, joints), dtype=np.float32)
    upright = np.array([[1, 0, 0, 0]], dtype=np.float32)
    return RobotState(three, upright, three, three, zeros, zeros)
