"""What a run shows: how long the robot stayed up, how near the reference or command it was, how the loop kept time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.contract import PolicyContract
from bodydouble.errors import InputError, RecordingError
from bodydouble.frames import heading_rotate_inv, yaw_angle
from bodydouble.motion import RobotMotion
from bodydouble.recording.reader import RecordingReader
from robot.command_input import VELOCITIES, CommandInput
from robot.safety import SafetyConfig

TICK_TOPIC = "/policy/tick"
"""Topic of the ticks in a run."""
FALLEN_TILT = 0.9
"""Tilt of the base beyond which the robot has fallen, rad."""
FALLEN_HEIGHT_SHARE = 0.6
"""Share of the reference's base height below which it has fallen."""
FALLEN_DISTANCE_M = 0.6
"""Distance of the base to the reference beyond which it does not follow any more, m."""
VELOCITY_WINDOW_S = 0.5
"""Time over which a velocity of the base is measured, s: a step sways it back and forth."""


@dataclass(frozen=True)
class Tracking:
    """The true motion of the robot beside its reference, at the control rate. T ticks."""

    t_s: np.ndarray
    """Time since the release (T,), s."""
    frame: np.ndarray
    """Frame of the reference (T,)."""
    body_error_m: np.ndarray
    """Mean distance of the tracked bodies to the reference (T,), m."""
    down: np.ndarray
    """Whether the robot has fallen or left the reference (T,)."""
    qpos: np.ndarray
    """Generalised positions (T, nq)."""
    playing: np.ndarray
    """Whether the reference was being played (T,)."""


@dataclass(frozen=True)
class Following:
    """The true motion of a robot beside what it was told. T ticks, C values of the command."""

    t_s: np.ndarray
    """Time since the release (T,), s."""
    command: np.ndarray
    """Command in force (T, C)."""
    velocity: np.ndarray
    """Velocity of the base forward and to the left (T, 2), m/s, and about the vertical (T, 1), rad/s: (T, 3)."""
    down: np.ndarray
    """Whether the robot has fallen (T,)."""
    qpos: np.ndarray
    """Generalised positions (T, nq)."""
    running: np.ndarray
    """Whether the policy was in charge (T,)."""


def read_ticks(path: Path, topic: str = TICK_TOPIC) -> list[dict[str, Any]]:
    """Return the ticks of a run.

    Raises:
        RecordingError: The run has none, or one is damaged.
    """
    ticks = []
    with RecordingReader(path) as reader:
        for message in reader.messages([topic]):
            try:
                tick = json.loads(message.message.data)
                tick["t_ns"], tick["mode"], tick["frame"]
            except (ValueError, KeyError, TypeError) as error:
                raise RecordingError(f"{path}: holds a damaged tick ({error}); record the run again") from None
            ticks.append(tick)
    if not ticks:
        raise RecordingError(f"{path}: holds no ticks on {topic}; is it a run?")
    return ticks


def tracking(ticks: list[dict[str, Any]], truth: Path, reference: RobotMotion) -> Tracking:
    """Return the robot's true motion beside the reference.

    Args:
        ticks: The run's ticks.
        truth: The simulated robot's true states, as its node writes them.
        reference: The reference motion.

    Raises:
        InputError: The true states are missing, or the robot was never released.
    """
    live, t_s, qpos, bodies = _live(ticks, truth)
    frame = np.array([tick["frame"] for tick in live])
    error = np.linalg.norm(bodies - reference.body_pos[frame], axis=2).mean(axis=1)
    away = np.linalg.norm(qpos[:, :2] - reference.root_pos[frame, :2], axis=1)
    down = _fallen(qpos, reference.root_pos[frame, 2]) | (away > FALLEN_DISTANCE_M)
    playing = np.array([tick["skill"] == "track" and not tick["finished"] for tick in live])
    return Tracking(t_s, frame, error, down, qpos, playing)


def following(ticks: list[dict[str, Any]], truth: Path, contract: PolicyContract) -> Following:
    """Return the robot's true motion beside what it was told.

    Args:
        ticks: The run's ticks.
        truth: The simulated robot's true states, as its node writes them.
        contract: The policy's contract.

    Raises:
        InputError: The true states are missing, or the robot was never released.
    """
    live, t_s, qpos, _ = _live(ticks, truth)
    told = CommandInput(contract.command, SafetyConfig().command_timeout_s)
    command = np.zeros((len(live), len(contract.command_names)))
    first = len(ticks) - len(live)
    for number, tick in enumerate(ticks):
        for asked in tick["commands"]:
            if asked.startswith("command: "):
                told.give(told.check(asked.removeprefix("command: ")), tick["t_ns"])
        if number >= first and told.known:
            command[number - first] = told.at(tick["t_ns"], resting=tick["skill"] != "track")[0][0]
    running = np.array([tick["mode"] == "run" for tick in live])
    return Following(t_s, command, _velocity(t_s, qpos), _fallen(qpos, qpos[0, 2]), qpos, running)


def _live(ticks: list[dict[str, Any]], truth: Path) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray, np.ndarray]:
    """Return the ticks since the release, their times (T,), s, and the qpos (T, nq) and bodies (T, K, 3) they saw."""
    try:
        with np.load(truth, allow_pickle=False) as data:
            times, qpos, bodies = data["t_ns"], data["qpos"], data["body_pos"]
            released = int(data["released_ns"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{truth}: cannot be read as true states ({error}); run again") from None
    live = [tick for tick in ticks if tick["mode"] in ("ramp", "run", "stopped") and tick["t_ns"] >= released > 0]
    if not live or not len(times):
        raise InputError(f"{truth}: the robot was never released; no command reached it")
    tick_ns = np.array([tick["t_ns"] for tick in live], dtype=np.int64)
    # The state that the tick saw is the last one at or before it.
    seen = np.clip(np.searchsorted(times, tick_ns, side="right") - 1, 0, len(times) - 1)
    return live, (tick_ns - released) / 1e9, qpos[seen], bodies[seen]


def _fallen(qpos: np.ndarray, height: np.ndarray | float) -> np.ndarray:
    """Return where the base is tilted far, or sunk far below a height (T,)."""
    tilt = np.arccos(np.clip(1 - 2 * (qpos[:, 4] ** 2 + qpos[:, 5] ** 2), -1, 1))
    return (tilt > FALLEN_TILT) | (qpos[:, 2] < FALLEN_HEIGHT_SHARE * height)


def _velocity(t_s: np.ndarray, qpos: np.ndarray) -> np.ndarray:
    """Return the base's velocity (T, 3) in its heading's frame, over a window around each time."""
    yaw = np.unwrap(yaw_angle(qpos[:, 3:7]))
    half = VELOCITY_WINDOW_S / 2
    before = np.searchsorted(t_s, t_s - half)
    after = np.clip(np.searchsorted(t_s, t_s + half), 0, len(t_s) - 1)
    span = np.maximum(t_s[after] - t_s[before], 1e-9)[:, None]
    world = np.pad(qpos[after, :2] - qpos[before, :2], ((0, 0), (0, 1))) / span
    along = heading_rotate_inv(qpos[:, 3:7], world)[:, :2]
    return np.column_stack([along, (yaw[after] - yaw[before])[:, None] / span])


def run_figures(ticks: list[dict[str, Any]], found: Tracking) -> dict[str, float]:
    """Return the figures of a run.

    robot_up_s is the time from the release to the first moment the robot is down, or to the end. body_error_m is the
    mean over the time the reference was played. Missed ticks are those that a deadline was skipped for.
    """
    played = found.playing if found.playing.any() else np.ones(len(found.t_s), dtype=bool)
    return _up(found.t_s, found.down) | {
        "body_error_m": float(found.body_error_m[played].mean()),
        "body_error_max_m": float(found.body_error_m[played].max()),
    } | loop_figures(ticks)  # fmt: skip


def following_figures(ticks: list[dict[str, Any]], found: Following, names: tuple[str, ...]) -> dict[str, float]:
    """Return the figures of a run of a policy that follows no reference.

    The errors are means while the policy was in charge and the robot up, of those velocities that it is told.

    Args:
        ticks: The run's ticks.
        found: The robot's motion beside what it was told.
        names: Names of what it was told (C,).
    """
    down = np.flatnonzero(found.down)
    counts = found.running & (np.arange(len(found.t_s)) < (down[0] if len(down) else len(found.t_s)))
    figures = _up(found.t_s, found.down)
    told = [name for name in VELOCITIES if name in names]
    if told and counts.any():
        columns = [list(VELOCITIES).index(name) for name in told]
        error = found.velocity[:, columns] - found.command[:, [names.index(name) for name in told]]
        by_name = dict(zip(told, error[counts].T, strict=True))
        turn = by_name.pop("yaw_rate", None)
        if by_name:
            figures["velocity_error_m_s"] = float(np.linalg.norm(list(by_name.values()), axis=0).mean())
        if turn is not None:
            figures["yaw_rate_error_rad_s"] = float(np.abs(turn).mean())
    return figures | loop_figures(ticks)


def _up(t_s: np.ndarray, down: np.ndarray) -> dict[str, float]:
    fallen = np.flatnonzero(down)
    return {"robot_up_s": float(t_s[fallen[0]] if len(fallen) else t_s[-1]), "run_s": float(t_s[-1])}


def loop_figures(ticks: list[dict[str, Any]]) -> dict[str, float]:
    """Return how the control loop kept time, and how often the safety layer stepped in."""
    duration = np.array([tick["tick_ms"] for tick in ticks])
    late = np.array([tick["late_ms"] for tick in ticks])
    inputs = max(len(tick["stamps"]) for tick in ticks)
    age = np.array([(t["t_ns"] - min(t["stamps"].values())) / 1e6 for t in ticks if 0 < len(t["stamps"]) == inputs])
    return {
        "tick_p50_ms": float(np.percentile(duration, 50)),
        "tick_p99_ms": float(np.percentile(duration, 99)),
        "tick_max_ms": float(duration.max()),
        "late_p50_ms": float(np.percentile(late, 50)),
        "late_p99_ms": float(np.percentile(late, 99)),
        "input_age_p50_ms": float(np.percentile(age, 50)),
        "input_age_p99_ms": float(np.percentile(age, 99)),
        "ticks": float(len(ticks)),
        "missed_ticks": float(ticks[-1]["missed"]),
        "safety_interventions": float(sum(bool(tick["events"]) for tick in ticks)),
    }
