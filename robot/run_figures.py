"""What a run shows: how long the robot stayed up, how near the reference it was, how the loop kept time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.errors import InputError, RecordingError
from bodydouble.motion import RobotMotion
from bodydouble.recording.reader import RecordingReader

TICK_TOPIC = "/policy/tick"
"""Topic of the ticks in a run."""
FALLEN_TILT = 0.9
"""Tilt of the base beyond which the robot has fallen, rad."""
FALLEN_HEIGHT_SHARE = 0.6
"""Share of the reference's base height below which it has fallen."""
FALLEN_DISTANCE_M = 0.6
"""Distance of the base to the reference beyond which it does not follow any more, m."""


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
    frame = np.array([tick["frame"] for tick in live])
    # The state that the tick saw is the last one at or before it.
    seen = np.clip(np.searchsorted(times, tick_ns, side="right") - 1, 0, len(times) - 1)
    error = np.linalg.norm(bodies[seen] - reference.body_pos[frame], axis=2).mean(axis=1)
    state = qpos[seen]
    tilt = np.arccos(np.clip(1 - 2 * (state[:, 4] ** 2 + state[:, 5] ** 2), -1, 1))
    away = np.linalg.norm(state[:, :2] - reference.root_pos[frame, :2], axis=1)
    down = (
        (tilt > FALLEN_TILT)
        | (state[:, 2] < FALLEN_HEIGHT_SHARE * reference.root_pos[frame, 2])
        | (away > FALLEN_DISTANCE_M)
    )
    playing = np.array([tick["skill"] == "track" and not tick["finished"] for tick in live])
    return Tracking((tick_ns - released) / 1e9, frame, error, down, state, playing)


def run_figures(ticks: list[dict[str, Any]], found: Tracking) -> dict[str, float]:
    """Return the figures of a run.

    robot_up_s is the time from the release to the first moment the robot is down, or to the end. body_error_m is the
    mean over the time the reference was played. Missed ticks are those that a deadline was skipped for.
    """
    down = np.flatnonzero(found.down)
    end = found.t_s[down[0]] if len(down) else found.t_s[-1]
    played = found.playing if found.playing.any() else np.ones(len(found.t_s), dtype=bool)
    duration = np.array([tick["tick_ms"] for tick in ticks])
    late = np.array([tick["late_ms"] for tick in ticks])
    age = np.array([(t["t_ns"] - min(t["stamps"].values())) / 1e6 for t in ticks if len(t["stamps"]) == 3])
    return {
        "robot_up_s": float(end),
        "run_s": float(found.t_s[-1]),
        "body_error_m": float(found.body_error_m[played].mean()),
        "body_error_max_m": float(found.body_error_m[played].max()),
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
