"""`run`: the policy under ROS 2 on the simulated robot, every node a process, recorded, to the reference's end."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import BodydoubleError, ContractError, InputError
from bodydouble.motion import RobotMotion
from robot.policy_file import PolicyFile
from robot.run_figures import read_ticks, run_figures, tracking
from robot.two_hosts import on_host

RUN_FILE = "run.mcap"
"""The recording of the run."""
MANIFEST_FILE = "run.json"
"""Figures of the run."""
TRACKING_FILE = "tracking.npz"
"""The robot's true motion and its error, at the control rate."""
_ORCHESTRATOR = "worldmodel.nodes.orchestrator_node"


class RunError(BodydoubleError):
    """A node of the run died or did not answer."""


@dataclass(frozen=True)
class SimFaults:
    """What the simulated robot does worse than the simulation."""

    delay_steps: int = 0
    """Delay of a command, physics steps."""
    joint_noise: float = 0.0
    """Encoder noise, rad."""
    gyro_noise: float = 0.0
    """Gyro noise, rad/s."""
    speed_noise: float = 0.0
    """Noise of the joint speeds, rad/s."""
    loss: float = 0.0
    """Share of the sensor messages, and of the commands, that are lost."""
    seed: int = 0
    """Seed of noise and loss."""


@dataclass(frozen=True)
class RunConfig:
    """How a run goes."""

    orchestrator: bool = True
    """Let the orchestrator plan and choose the skills; otherwise stand, then track, by the clock."""
    stand_s: float = 2.0
    """Time the robot stands before the reference is played, s; only without the orchestrator."""
    end_s: float = 1.0
    """Time the run goes on after the reference's end, s."""
    start_timeout_s: float = 60.0
    """Longest wait for the first command, s."""
    limit_s: float = 0.0
    """Longest run, s; 0 is the reference's length and half as much again, and 30 s."""
    domain: int = 0
    """ROS domain; 0 takes one by the process's number, so that runs do not meet."""
    trusted: Path | None = None
    """Folder of the public keys (.pub) of known signers; a policy that none of them signed is refused."""
    robot_host: str = ""
    """Network namespace to run the simulated robot in, as on another host; empty for this one."""
    faults: SimFaults = field(default_factory=SimFaults)
    """Delay, noise and loss of the simulated robot."""


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
        return (
            f"{self.path}: up {f['robot_up_s']:.1f} of {f['run_s']:.1f} s, "
            f"body error {1000 * f['body_error_m']:.0f} mm, "
            f"tick p99 {f['tick_p99_ms']:.2f} ms, {f['missed_ticks']:.0f} missed, "
            f"{f['safety_interventions']:.0f} interventions, {f['dropped_messages']:.0f} messages dropped"
        )


def run(policy: Path, stage: Path, out: Path, config: RunConfig | None = None) -> RunResult:
    """Run a policy on a stage's simulated robot and write the run; one made from the same inputs is left as it is.

    Args:
        policy: The ONNX file.
        stage: Folder of the stage.
        out: Folder to write run.mcap, run.json and tracking.npz into.
        config: Settings.

    Raises:
        ContractError: The policy is refused, or was exported for another stage or robot.
        RunError: A node died or did not answer in time.
    """
    config = config or RunConfig()
    manifest = read_json(stage / "stage.json")
    file = PolicyFile(policy, config.trusted)
    _check_fits(file, stage, manifest)
    inputs = {"policy": policy, "stage": stage}
    if is_current(out / MANIFEST_FILE, inputs_hash(config, inputs)):
        return RunResult(out, read_json(out / MANIFEST_FILE)["figures"])
    reference = RobotMotion.load(stage / "reference.npz")
    with atomic_dir(out) as folder:
        truth = folder / "truth.npz"
        _perform(policy, stage, folder, reference, config)
        ticks = read_ticks(folder / RUN_FILE)
        found = tracking(ticks, truth, reference)
        figures = run_figures(ticks, found) | _recorder_figures(folder / RUN_FILE)
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


def _check_fits(file: PolicyFile, stage: Path, manifest: dict[str, Any]) -> None:
    try:
        robot, joints = manifest["robot"]["name"], tuple(manifest["robot"]["joint_names"])
    except (KeyError, TypeError):
        raise InputError(f"{stage}: is no stage; make one with `bodydouble stage`") from None
    file.check_robot(robot, joints)
    from bodydouble.artifacts import sha256_file

    if file.contract.hashes.get("reference") != sha256_file(stage / "reference.npz"):
        raise ContractError(f"{file.path}: was exported for another reference than {stage}'s; export it for this stage")


def _perform(policy: Path, stage: Path, folder: Path, reference: RobotMotion, config: RunConfig) -> None:
    # Above 101 the ports of a domain reach into those the system hands out.
    domain = config.domain or 1 + os.getpid() % 100
    environment = dict(os.environ, ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    if config.robot_host:
        # Namespaces share their memory: without shared-memory transport every message goes over the network.
        environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    with_orchestrator = config.orchestrator
    if with_orchestrator and importlib.util.find_spec(_ORCHESTRATOR) is None:
        raise InputError("the orchestrator is not installed; run with --config.no-orchestrator")
    subscribers = str(3 if with_orchestrator else 2)
    faults = [word for name, value in vars(config.faults).items() for word in (_flag(name), str(value))]
    commands = {
        "recorder": ["robot.nodes.recorder_node", "--out", str(folder / RUN_FILE)],
        "sim_robot": [
            "sim.nodes.sim_robot_node", "--stage", str(stage), "--truth", str(folder / "truth.npz"),
            "--subscribers", subscribers, *faults,
        ],
        "policy": [
            "robot.nodes.policy_node", "--policy", str(policy), "--reference", str(stage / "reference.npz"),
            "--subscribers", subscribers, "--ros-args", "-p", "autostart:=true",
            *(["-p", f"trusted_signers:={config.trusted}"] if config.trusted else []),
        ],
    }  # fmt: skip
    if with_orchestrator:
        commands["orchestrator"] = [
            _ORCHESTRATOR, "--policy", str(policy), "--stage", str(stage), "--out", str(folder / "decisions.json"),
        ]  # fmt: skip
    hosts = {"sim_robot": on_host(config.robot_host)} if config.robot_host else {}
    with _processes(commands, environment, folder, hosts) as processes:
        _watch(processes, reference, config, environment)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@contextlib.contextmanager
def _processes(
    commands: dict[str, list[str]], environment: dict[str, str], folder: Path, hosts: dict[str, list[str]]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start the nodes; at the end stop them, the policy first and the recorder last, and tell which failed."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    logs = {name: open(folder / f"{name}.log", "wb") for name in commands}  # noqa: SIM115 - closed below
    failures: list[str] = []
    try:
        for name, argv in commands.items():
            processes[name] = subprocess.Popen(
                [*hosts.get(name, ()), sys.executable, "-m", *argv], env=environment, stdout=logs[name],
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        yield processes
    finally:
        for name in sorted(processes, key=lambda name: (name == "recorder", name != "policy")):
            code = _stop(processes[name])
            if code != 0:
                failures.append(f"{name} ended with status {code}")
        for log in logs.values():
            log.close()
    if failures:
        raise RunError(f"{'; '.join(failures)}: {_tail(folder, failures[0].split()[0])}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    for ask in (process.terminate, process.kill):
        try:
            return process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            ask()
    return process.wait()


def _tail(folder: Path, name: str) -> str:
    lines = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _watch(
    processes: dict[str, subprocess.Popen[bytes]],
    reference: RobotMotion,
    config: RunConfig,
    environment: dict[str, str],
) -> None:
    """Follow the ticks until the reference has ended, choosing the skills where no orchestrator does."""
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_BUILTIN_TRANSPORTS"):
        if name in environment:
            os.environ[name] = environment[name]
    from std_msgs.msg import String

    from robot.nodes.process import SKILL, TICK, reliable, running_node

    ticks: list[dict[str, Any]] = []
    with running_node("launch", []) as running:
        skill = running.node.create_publisher(String, SKILL, reliable(10))
        running.node.create_subscription(
            String, TICK, lambda message: ticks.append(_short(message.data)), reliable(200)
        )
        begun = time.monotonic()
        limit = config.limit_s or 1.5 * reference.duration_s + 30.0
        last = reference.num_frames - 1
        asked, ended_at = False, 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[mode]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("running", total=last, mode="starting")
            while True:
                time.sleep(0.05)
                for name, process in processes.items():
                    if process.poll() is not None:
                        raise RunError(f"node {name} ended with status {process.returncode} during the run")
                now = ticks[-1] if ticks else None
                waiting = now is None or now["mode"] == "waiting"
                elapsed = time.monotonic() - begun
                if waiting and elapsed > config.start_timeout_s:
                    raise RunError(f"no command within {config.start_timeout_s:g} s; see the nodes' logs")
                if now is None or waiting:
                    continue
                bar.update(task, completed=now["frame"], mode=f"{now['skill']} ({now['mode']})")
                if (
                    not config.orchestrator
                    and not asked
                    and elapsed > config.stand_s
                    and now["tick"] > 50 * config.stand_s
                ):
                    skill.publish(String(data=json.dumps({"skill": "track", "reason": "the launch's schedule"})))
                    asked = True
                over = now["finished"] or now["mode"] == "stopped"
                ended_at = ended_at or (elapsed if over else 0.0)
                if (ended_at and elapsed > ended_at + config.end_s) or elapsed > limit:
                    return


def _short(text: str) -> dict[str, Any]:
    tick = json.loads(text)
    return {name: tick[name] for name in ("tick", "mode", "skill", "frame", "finished")}


def _recorder_figures(path: Path) -> dict[str, float]:
    from bodydouble.recording.reader import RecordingReader

    with RecordingReader(path) as reader:
        counts = reader.metadata.get("recorder", {})
    return {
        "recorded_messages": float(counts.get("written", "nan")),
        "dropped_messages": float(counts.get("dropped", "nan")),
    }
