"""How a run goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
    """Longest run, s; 0 is the reference's length and half as much again, and 30 s. For a policy that follows no
    reference 0 is up to the last row of `command_file`, or 10 s."""
    motion: int = 0
    """Which of the stage's motions to follow; 0 is its reference."""
    command: tuple[float, ...] = ()
    """What a policy that is told something (a velocity) is told all the time, in its contract's order. With neither
    this nor `command_file` it hears `cmd_vel`, or `policy/command`, from whoever sends there in `domain`."""
    command_file: Path | None = None
    """CSV file of what it is told: a heading `t_s` and the command's names, then rows, each in force until the next."""
    domain: int = 0
    """ROS domain; 0 takes one by the process's number, so that runs do not meet."""
    trusted: Path | None = None
    """Folder of the public keys (.pub) of known signers; a policy that none of them signed is refused."""
    robot_host: str = ""
    """Network namespace to run the simulated robot in, as on another host; empty for this one."""
    faults: SimFaults = field(default_factory=SimFaults)
    """Delay, noise and loss of the simulated robot."""
