"""`run`: the policy under ROS 2 on the simulated robot, every node a process, recorded, to the reference's end."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import inputs_hash, is_current, machine_info, provenance, read_json, sha256_file, write_json
from bodydouble.errors import ContractError, InputError
from bodydouble.motion import RobotMotion
from robot.command_source import CommandSource, constant, read_commands
from robot.policy_file import PolicyFile
from robot.run_config import RunConfig, SimFaults
from robot.run_figures import following, following_figures, read_ticks, run_figures, tracking
from robot.run_folder import RUN_FILE, run_folder
from robot.run_processes import RunError, node_processes
from robot.run_watch import watch
from robot.two_hosts import on_host

__all__ = ["RunConfig", "RunError", "RunResult", "SimFaults", "run"]
MANIFEST_FILE = "run.json"
"""Figures of the run."""
TRACKING_FILE = "tracking.npz"
"""The robot's true motion and its error, at the control rate."""
REFERENCE_FILE = "reference.npz"
"""The stage's own reference motion, which a policy's contract names."""
_ORCHESTRATOR = "worldmodel.nodes.orchestrator_node"
_COMMANDED_S = 10.0
"""Length of a run that neither a reference nor a file of commands ends, s."""


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    path: Path
    """The run's folder."""
    figures: dict[str, float]
    """Figures of run.json."""

    def __str__(self) -> str:
        """One line with the outcome."""
        f = self.figures
        errors = {
            "body_error_m": "body error {:.3f} m", "velocity_error_m_s": "velocity error {:.2f} m/s",
            "yaw_rate_error_rad_s": "yaw rate error {:.2f} rad/s",
        }  # fmt: skip
        told = "".join(f"{text.format(f[name])}, " for name, text in errors.items() if name in f)
        return (
            f"{self.path}: up {f['robot_up_s']:.1f} of {f['run_s']:.1f} s, {told}"
            f"tick p99 {f['tick_p99_ms']:.2f} ms, {f['missed_ticks']:.0f} missed, "
            f"{f['safety_interventions']:.0f} interventions, {f['dropped_messages']:.0f} messages dropped"
        )


def run(policy: Path, stage: Path | None, out: Path, config: RunConfig | None = None) -> RunResult:
    """Run a policy on a stage's simulated robot and write the run; one made from the same inputs is left as it is.

    After a failure what was recorded is kept beside `out`, and the error says where.

    Args:
        policy: The ONNX file.
        stage: Folder of the stage; None puts the robot on a flat floor, for a policy that follows no reference.
        out: Folder to write run.mcap, run.json and tracking.npz into.
        config: Settings.

    Raises:
        ContractError: The policy is refused, or was exported for another stage or robot.
        InputError: The policy needs a stage, or cannot be told the command.
        RunError: A node died or did not answer in time.
    """
    config = config or RunConfig()
    plan = _plan(policy, stage, config)
    inputs = {"policy": policy} | ({"stage": stage} if stage else {})
    inputs |= {"commands": config.command_file} if config.command_file else {}
    if is_current(out / MANIFEST_FILE, inputs_hash(config, inputs)):
        return RunResult(out, read_json(out / MANIFEST_FILE)["figures"])
    with run_folder(out) as folder:
        truth = folder / "truth.npz"
        _perform(plan, folder, config)
        ticks = read_ticks(folder / RUN_FILE)
        if plan.reference is not None:
            found = tracking(ticks, truth, plan.reference)
            figures = run_figures(ticks, found)
        else:
            found = following(ticks, truth, plan.file.contract)
            figures = following_figures(ticks, found, plan.file.contract.command_names)
        figures |= _recorder_figures(folder / RUN_FILE)
        with np.load(truth, allow_pickle=False) as data:
            figures["sim_slipped_s"] = float(data["slipped_s"])
        np.savez_compressed(
            folder / TRACKING_FILE, **vars(found), tick_ms=np.array([tick["tick_ms"] for tick in ticks]),
            late_ms=np.array([tick["late_ms"] for tick in ticks]),
        )  # fmt: skip
        write_json(
            folder / MANIFEST_FILE,
            {"provenance": provenance(config, inputs), "machine": machine_info(), "figures": figures},
        )
    return RunResult(out, figures)


@dataclass(frozen=True)
class _Plan:
    """What is run."""

    file: PolicyFile
    stage: Path | None
    reference_path: Path | None
    reference: RobotMotion | None
    source: CommandSource | None
    limit_s: float


def _plan(policy: Path, stage: Path | None, config: RunConfig) -> _Plan:
    """Check that policy, stage and command fit."""
    file = PolicyFile(policy, config.trusted)
    contract, reference_path, reference = file.contract, None, None
    if stage is not None:
        reference_path = _check_fits(file, stage, read_json(stage / "stage.json"), config.motion)
    elif contract.follows_reference:
        raise InputError(f"{policy}: follows a reference motion; name the stage that holds it with --stage")
    if contract.follows_reference:
        assert reference_path is not None
        reference = RobotMotion.load(reference_path)
    else:
        reference_path = None
    source = _command_source(file, config)
    usual = 1.5 * reference.duration_s + 30.0 if reference else (source.end_s if source else 0.0) or _COMMANDED_S
    return _Plan(file, stage, reference_path, reference, source, config.limit_s or usual)


def _command_source(file: PolicyFile, config: RunConfig) -> CommandSource | None:
    """Return what tells the policy its commands; None leaves that to others on its topic."""
    spec = file.contract.command
    if config.command and config.command_file:
        raise InputError("--config.command and --config.command-file exclude each other")
    if not config.command and config.command_file is None:
        return None
    if not spec.names:
        raise InputError(f"{file.path}: is told nothing, it follows the stage's reference; leave --config.command out")
    if config.command_file is not None:
        return read_commands(config.command_file, spec)
    return constant(config.command, spec)


def _check_fits(file: PolicyFile, stage: Path, manifest: dict[str, Any], motion: int) -> Path:
    """Return the file of the motion to follow."""
    try:
        robot, joints = manifest["robot"]["name"], tuple(manifest["robot"]["joint_names"])
        motions = [str(name) for name in manifest["motions"]]
    except (KeyError, TypeError):
        raise InputError(f"{stage}: is no stage; make one with `bodydouble stage`") from None
    file.check_robot(robot, joints)
    hashes = file.contract.hashes
    if file.contract.follows_reference and hashes.get("reference") != sha256_file(stage / REFERENCE_FILE):
        raise ContractError(f"{file.path}: was exported for another reference than {stage}'s; export it for this stage")
    if not 0 <= motion < len(motions):
        raise InputError(f"{stage}: has {len(motions)} motions, --config.motion is {motion}; the first is 0")
    found = stage / motions[motion]
    if not found.resolve().is_relative_to(stage.resolve()):
        raise InputError(f"{stage}: names a motion outside of it; build the stage again")
    return found


def _perform(plan: _Plan, folder: Path, config: RunConfig) -> None:
    # Above 101 the ports of a domain reach into those the system hands out.
    domain = config.domain or 1 + os.getpid() % 100
    environment = dict(os.environ, ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    if config.robot_host:
        # Namespaces share their memory: without shared-memory transport every message goes over the network.
        environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    with_orchestrator = config.orchestrator and plan.reference is not None
    if with_orchestrator and importlib.util.find_spec(_ORCHESTRATOR) is None:
        raise InputError("the orchestrator is not installed; run with --config.no-orchestrator")
    subscribers = str(3 if with_orchestrator else 2)
    faults = [word for name, value in vars(config.faults).items() for word in (_flag(name), str(value))]
    stage, motion, policy = plan.stage or folder / "stage", str(config.motion), str(plan.file.path)
    commands = {
        "recorder": ["robot.nodes.recorder_node", "--out", str(folder / RUN_FILE)],
        "sim_robot": [
            "sim.nodes.sim_robot_node", "--stage", str(stage), "--motion", motion,
            *([] if plan.stage else ["--robot", plan.file.contract.robot]),
            "--truth", str(folder / "truth.npz"), "--subscribers", subscribers, *faults,
        ],
        "policy": [
            "robot.nodes.policy_node", "--policy", policy, "--reference", str(plan.reference_path or ""),
            "--subscribers", subscribers, "--ros-args", "-p", "autostart:=true",
            *(["-p", f"trusted_signers:={config.trusted}"] if config.trusted else []),
        ],
    }  # fmt: skip
    if with_orchestrator:
        commands["orchestrator"] = [
            _ORCHESTRATOR, "--policy", policy, "--stage", str(stage), "--motion", motion,
            "--out", str(folder / "decisions.json"),
        ]  # fmt: skip
    hosts = {"sim_robot": on_host(config.robot_host)} if config.robot_host else {}
    with node_processes(commands, environment, folder, hosts) as processes:
        names = plan.file.contract.command_names
        watch(processes, plan.reference, plan.source, names, plan.limit_s, config, environment)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _recorder_figures(path: Path) -> dict[str, float]:
    from bodydouble.recording.reader import RecordingReader

    with RecordingReader(path) as reader:
        counts = reader.metadata.get("recorder", {})
    return {
        "recorded_messages": float(counts.get("written", "nan")),
        "dropped_messages": float(counts.get("dropped", "nan")),
    }
