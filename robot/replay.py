"""`replay`: a recorded run's inputs through the same runtime; what comes out is compared bit by bit.

An input is the recorded message. Where that was lost on its way to the recorder, as a lossy network may have it, it is
what the tick says that it consumed; the report counts these.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import inputs_hash, is_current, machine_info, provenance, read_json, sha256_file, write_json
from bodydouble.errors import ContractError, InputError, RecordingError
from bodydouble.motion import RobotMotion
from bodydouble.recording.messages import stamp_ns
from bodydouble.recording.reader import RecordingReader
from robot.inputs import READERS, give_consumed
from robot.policy_file import PolicyFile
from robot.run_figures import read_ticks
from robot.runtime import PolicyRuntime, TickResult
from robot.safety import SafetyConfig

INPUT_TOPICS = {"joint_states": "/joint_states", "imu": "/imu", "odom": "/odom"}
"""Topics of the runtime's inputs in a run."""
COMMAND_TOPIC = "/forward_position_controller/commands"
"""Topic of the commands in a run."""
SETTINGS_TOPIC = "/policy/settings"
"""Topic of the safety layer's bounds, and of the reference's hash, in a run."""
MAX_MOTIONS = 100_000
"""Most motions of a stage that are looked through."""


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found."""

    run: Path
    """The recorded run."""
    ticks: int
    """Ticks replayed."""
    diff_bits: int
    """Bits that differ in observations, actions, commands and messages sent."""
    first_difference: str
    """Where the first difference is; empty when there is none."""
    x_realtime: float
    """Speed of the replay, in units of the run's own time."""
    inputs_from_ticks: int
    """Inputs whose message was not recorded, taken from the tick that consumed them."""
    origin: dict[str, Any]
    """Provenance."""

    def __str__(self) -> str:
        """One line with the outcome."""
        where = f", first in {self.first_difference}" if self.first_difference else ""
        lost = f", {self.inputs_from_ticks} inputs from the ticks alone" if self.inputs_from_ticks else ""
        return (
            f"{self.run}: {self.ticks} ticks, {self.diff_bits} differing bits{where}{lost}, "
            f"{self.x_realtime:.0f} x real time"
        )

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        figures = {
            "replay_diff_bits": self.diff_bits,
            "replay_ticks": self.ticks,
            "replay_x_realtime": self.x_realtime,
            "replay_inputs_from_ticks": self.inputs_from_ticks,
        }
        write_json(
            path,
            {
                "provenance": self.origin,
                "machine": machine_info(),
                "first_difference": self.first_difference,
                "figures": figures,
            },
        )


def finished_report(path: Path, run: Path, policy: Path, stage: Path | None) -> ReplayReport | None:
    """Return the report in a file, or None where it is of another run, policy or stage."""
    if not is_current(path, inputs_hash(None, _sources(run, policy, stage))):
        return None
    data = read_json(path)
    f = data["figures"]
    return ReplayReport(
        run, f["replay_ticks"], f["replay_diff_bits"], data["first_difference"], f["replay_x_realtime"],
        f["replay_inputs_from_ticks"], data["provenance"],
    )  # fmt: skip


def _sources(run: Path, policy: Path, stage: Path | None) -> dict[str, Path]:
    return {"run": run, "policy": policy} | ({"stage": stage} if stage is not None else {})


def replay(run: Path, policy: Path, stage: Path | None) -> ReplayReport:
    """Replay a run, with the safety layer's bounds that it holds.

    Args:
        run: The run's MCAP file.
        policy: The ONNX file that ran.
        stage: Folder of the stage it ran on, with the motion that it followed; None for a policy that follows none.

    Raises:
        RecordingError: The run is damaged, or lacks an input that a tick consumed.
        ContractError: The policy is refused.
        InputError: The policy follows a reference and there is no stage.
    """
    ticks = read_ticks(run)
    for tick in ticks:
        _check_tick(run, tick)
    file, reference = PolicyFile(policy), None
    safety, followed = _recorded_settings(run)
    if file.contract.follows_reference:
        if stage is None:
            raise InputError(f"{policy}: follows a reference motion; name the stage it ran on with --stage")
        reference = RobotMotion.load(_motion_file(run, stage, followed))
    runtime = PolicyRuntime(file, reference, safety)
    inputs = _read_inputs(run)
    sent = _read_commands(run)
    if ticks[0]["tick"] != 0:
        raise RecordingError(f"{run}: begins at tick {ticks[0]['tick']}, expected 0; record the run from its start")
    begun = time.perf_counter()
    diff_bits, first, consumed, published, lost = 0, "", {}, 0, 0
    for number, tick in enumerate(ticks):
        if tick["tick"] != number:
            raise RecordingError(f"{run}: lacks tick {number}; the recorder dropped messages")
        lost += _feed(run, runtime, tick, inputs, consumed)
        result = runtime.tick(tick["t_ns"], tick["heartbeat_age_s"])
        bits, where = compare(result, tick)
        if result.command is not None:
            if published < len(sent):
                bits += differing_bits(result.command, sent[published])
            published += 1
        diff_bits += bits
        if bits and not first:
            first = f"tick {number}{': ' + where if where else ': the command that was sent'}"
    if published != len(sent):
        raise RecordingError(
            f"{run}: holds {len(sent)} commands, its ticks sent {published}; the recorder dropped some"
        )
    seconds = (ticks[-1]["t_ns"] - ticks[0]["t_ns"]) / 1e9
    speed = seconds / (time.perf_counter() - begun)
    origin = provenance(None, _sources(run, policy, stage))
    return ReplayReport(run, len(ticks), diff_bits, first, speed, lost, origin)


def compare(result: TickResult, recorded: dict[str, Any]) -> tuple[int, str]:
    """Return how many bits of a tick differ from the recorded one, and the first field that does."""
    found = result.to_dict()
    bits, where = 0, ""
    for name, value in found.items():
        before = recorded.get(name)
        if name == "inputs":
            different = _differing_inputs(value, before)
        elif name in ("obs", "action", "command") and value is not None and before is not None:
            different = differing_bits(np.array(value), np.array(before, dtype=np.float64))
        else:
            value = list(value) if isinstance(value, tuple) else value
            different = 0 if value == before else 64
        if different and not where:
            where = name
        bits += different
    return bits, where


def differing_bits(a: np.ndarray, b: np.ndarray) -> int:
    """Return the number of bits in which two float64 vectors differ; another length counts every bit."""
    if a.shape != b.shape:
        return 64 * max(a.size, b.size)
    difference = np.ascontiguousarray(a, dtype=np.float64).view(np.uint64)
    difference = difference ^ np.ascontiguousarray(b, dtype=np.float64).view(np.uint64)
    return int(np.unpackbits(difference.view(np.uint8)).sum())


def _differing_inputs(found: dict[str, dict[str, Any]], recorded: Any) -> int:
    """Return how many bits of the consumed inputs differ; runs from before they were written have none to compare."""
    if recorded is None:
        return 0
    bits = 0
    for source in found.keys() | recorded.keys():
        parts, before = found.get(source, {}), recorded.get(source, {})
        for part in parts.keys() | before.keys():
            # A number that is none has many forms, and JSON but one.
            a, b = (np.array(np.nan if values.get(part) is None else values[part]) for values in (parts, before))
            bits += differing_bits(np.where(np.isnan(a), np.nan, a), np.where(np.isnan(b), np.nan, b))
    return bits


def _check_tick(run: Path, tick: dict[str, Any]) -> None:
    """Check the fields that a replay reads, so that a damaged file is an error and no crash."""
    whole = [tick.get("tick"), tick.get("t_ns")]
    stamps, commands, age = tick.get("stamps"), tick.get("commands"), tick.get("heartbeat_age_s")
    inputs = tick.get("inputs", {})
    if isinstance(stamps, dict):
        whole += stamps.values()
    sound = (
        isinstance(stamps, dict)
        and all(isinstance(value, int) and abs(value) < 1 << 63 for value in whole)
        and isinstance(commands, list)
        and all(isinstance(command, str) for command in commands)
        and isinstance(age, int | float)
        and isinstance(inputs, dict)
        and all(isinstance(values, dict) and all(map(_is_vector, values.values())) for values in inputs.values())
    )
    if not sound:
        number = str(tick.get("tick"))[:40]
        raise RecordingError(f"{run}: holds a damaged tick ({number}, a field has a wrong form); record the run again")


def _is_vector(value: Any) -> bool:
    """Return whether a value is a list of floats, or None."""
    return value is None or (isinstance(value, list) and all(isinstance(number, float) for number in value))


def _recorded_settings(run: Path) -> tuple[SafetyConfig, str]:
    """Return the safety layer's bounds and the reference's SHA-256 that a run holds; the usual ones and "" for none."""
    found: list[tuple[SafetyConfig, str]] = []
    with RecordingReader(run) as reader:
        for message in reader.messages([SETTINGS_TOPIC]):
            try:
                settings = json.loads(message.message.data)
                bounds = {str(name): float(value) for name, value in settings["safety"].items()}
                found.append((SafetyConfig(**bounds), str(settings.get("reference_sha256", ""))))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
                raise RecordingError(
                    f"{run}: holds damaged settings ({str(error)[:80]}); record the run again"
                ) from None
    if any(settings != found[0] for settings in found):
        raise RecordingError(f"{run}: bounds or reference change on the way; replay each part by itself")
    return found[0] if found else (SafetyConfig(), "")


def _motion_file(run: Path, stage: Path, sha256: str) -> Path:
    """Return the file of the stage's motion with a hash; its reference where the run names none."""
    reference = stage / "reference.npz"
    if not sha256:
        return reference
    for path in (reference, *sorted((stage / "motions").glob("*.npz"))[:MAX_MOTIONS]):
        if sha256_file(path) == sha256:
            return path
    raise InputError(f"{run}: followed a motion that {stage} does not hold; name the stage it ran on")


def _read_inputs(run: Path) -> dict[str, dict[int, Any]]:
    inputs: dict[str, dict[int, Any]] = {name: {} for name in INPUT_TOPICS}
    names = {topic: name for name, topic in INPUT_TOPICS.items()}
    with RecordingReader(run) as reader:
        for message in reader.messages(list(INPUT_TOPICS.values())):
            # Of messages with one stamp the first was taken, and the others were not newer.
            inputs[names[message.topic]].setdefault(stamp_ns(message.message.header.stamp), message.message)
    return inputs


def _read_commands(run: Path) -> list[np.ndarray]:
    with RecordingReader(run) as reader:
        return [np.array(message.message.data) for message in reader.messages([COMMAND_TOPIC])]


def _feed(
    run: Path, runtime: PolicyRuntime, tick: dict[str, Any], inputs: dict[str, dict[int, Any]], consumed: dict[str, int]
) -> int:
    """Give the runtime what the tick consumed since the last one; return how much of it only the tick itself holds."""
    for command in tick["commands"]:
        try:
            runtime.ask(command)
        except ContractError as error:
            raise RecordingError(f"{run}: tick {tick['tick']}: {error}") from None
    lost = 0
    for name, stamp in tick["stamps"].items():
        if consumed.get(name) == stamp:
            continue
        consumed[name] = stamp
        message = inputs.get(name, {}).get(stamp)
        if message is not None:
            READERS[name](runtime, stamp, message)
            continue
        values = tick.get("inputs", {}).get(name)
        if values is None:
            raise RecordingError(
                f"{run}: lacks the message of {INPUT_TOPICS.get(name, name)} with stamp {stamp} that tick "
                f"{tick['tick']} consumed; the recorder dropped it or the file was cut"
            )
        lost += 1
        try:
            give_consumed(runtime, name, stamp, values)
        except ContractError as error:
            raise RecordingError(f"{run}: tick {tick['tick']}: {error}") from None
    return lost
