"""`verify`: an ONNX file against a stage, in MuJoCo, through the shared observation builder, tier by tier."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bodydouble.artifacts import inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import ContractError, InputError
from robot.policy_file import PolicyFile, SideBySide
from sim.backend.cpu_batch import CpuBatch
from sim.env.evaluate import Evaluation, evaluate
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.gate.tiers import TIERS, Tier
from sim.gate.wilson import wilson_interval
from sim.stage.stage import Stage
from sim.tasks.tracking.config import ResetConfig, TerminationConfig, TrackingConfig
from sim.tasks.tracking.terminations import TERMINATIONS


@dataclass(frozen=True)
class VerifyConfig:
    """How hard the gate is."""

    episodes: int = 24
    """Episodes of each tier but T0, which has nothing random and needs one."""
    seed: int = 0
    """Seed; every policy meets the same perturbations with the same seed."""
    threads: int = 0
    """Threads of the simulation; 0 takes every core."""
    max_body_error_m: float = 0.12
    """Largest mean body error in T0, m."""
    min_success: tuple[float, ...] = (1.0, 0.9, 0.8, 0.0, 0.0)
    """Smallest success rate of T0 to T4; 0 only reports."""
    termination: TerminationConfig = field(default_factory=TerminationConfig)
    """What counts as a failure."""


@dataclass(frozen=True)
class TierResult:
    """Outcome of one tier."""

    name: str
    """T0 to T4."""
    meaning: str
    """What was perturbed."""
    episodes: int
    """Episodes run."""
    success_rate: float
    """Share that followed the reference to its end."""
    interval: tuple[float, float]
    """Wilson interval of the success rate, 95 %."""
    body_error_m: float
    """Mean distance of the tracked bodies to their reference, m."""
    failures: dict[str, int]
    """Failed episodes by cause."""
    failed_at_s: tuple[float, ...]
    """Times of the reference at which episodes failed, s."""
    bound: float
    """Success rate that is asked for."""


@dataclass(frozen=True)
class VerifyReport:
    """What the gate found."""

    policy: Path
    """The ONNX file."""
    tiers: tuple[TierResult, ...]
    """One result per tier."""
    problems: tuple[str, ...]
    """Why the gate did not pass; empty when it did."""
    figures: dict[str, float]
    """Flat figures."""
    origin: dict[str, Any]
    """Provenance."""

    @property
    def passed(self) -> bool:
        """Whether the policy may run."""
        return not self.problems

    def __str__(self) -> str:
        """One line per tier, then the verdict."""
        lines = [
            f"{t.name} success {t.success_rate:.2f} [{t.interval[0]:.2f}, {t.interval[1]:.2f}] of {t.episodes}, "
            f"body error {1000 * t.body_error_m:.0f} mm ({t.meaning})"
            for t in self.tiers
        ]
        verdict = "passed" if self.passed else "NOT passed: " + "; ".join(self.problems)
        return "\n".join([*lines, f"{self.policy}: {verdict}"])

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        write_json(
            path,
            {
                "provenance": self.origin,
                "machine": machine_info(),
                "passed": self.passed,
                "problems": self.problems,
                "tiers": [vars(tier) for tier in self.tiers],
                "figures": self.figures,
            },
        )


def finished_report(path: Path, policy: Path, stage_path: Path, config: VerifyConfig) -> VerifyReport | None:
    """Return the report in a file, or None where it is of another policy, stage or configuration."""
    if not is_current(path, inputs_hash(config, {"policy": policy, "stage": stage_path})):
        return None
    data = read_json(path)
    tiers = tuple(TierResult(**{**tier, "interval": tuple(tier["interval"])}) for tier in data["tiers"])
    return VerifyReport(policy, tiers, tuple(data["problems"]), data["figures"], data["provenance"])


def verify(policy: Path, stage_path: Path, config: VerifyConfig | None = None) -> VerifyReport:
    """Judge a policy file on a stage.

    The file is loaded as on the robot (contract, weights' hash, golden vectors); the observations come from the shared
    builder; success is following the whole reference from its start.

    Args:
        policy: The ONNX file.
        stage_path: Folder of the stage.
        config: Thresholds.

    Raises:
        ContractError: The file is refused, or is for another robot, rate or observation.
        InputError: The stage cannot be used.
    """
    config = config or VerifyConfig()
    if len(config.min_success) != len(TIERS) or config.episodes < 1:
        raise InputError(f"config.min_success needs {len(TIERS)} values and config.episodes at least 1")
    file, stage = PolicyFile(policy), Stage.load(stage_path)
    check_stage(file, stage)
    robot = TrackedRobot.from_spec(stage.robot)
    results = []
    for tier, bound in track(
        list(zip(TIERS, config.min_success, strict=True)), "verifying", console=Console(stderr=True)
    ):
        episodes = len(stage.motions) if tier.name == "T0" else config.episodes
        results.append(_summary(tier, bound, _episodes(file, stage, robot, tier, episodes, config), stage))
    problems = [
        f"{t.name} success {t.success_rate:.2f} is below {t.bound:.2f}" for t in results if t.success_rate < t.bound
    ]
    if results[0].body_error_m > config.max_body_error_m:
        problems.append(f"T0 body error {results[0].body_error_m:.3f} m is above {config.max_body_error_m} m")
    figures = {f"{t.name.lower()}_success_rate": t.success_rate for t in results}
    figures |= {
        "success_rate": results[1].success_rate,
        "verify_body_error_m": results[0].body_error_m,
        "golden_max_abs_diff": file.golden_max_abs_diff,
    }
    origin = provenance(config, {"policy": policy, "stage": stage.path})
    return VerifyReport(policy, tuple(results), tuple(problems), figures, origin)


def check_stage(file: PolicyFile, stage: Stage) -> None:
    """Compare a policy's contract with a stage.

    Raises:
        ContractError: Robot, joints or rates differ, or the policy was exported for another stage.
    """
    contract = file.contract
    file.check_robot(stage.robot.name, stage.robot.joint_names)
    for name in ("control_hz", "physics_dt"):
        if getattr(contract, name) != getattr(stage, name):
            raise ContractError(
                f"{file.path}: was trained at {name} {getattr(contract, name)}, the stage has {getattr(stage, name)}"
            )
    if contract.hashes.get("stage") != stage.sha256:
        raise ContractError(f"{file.path}: was exported for another stage than {stage.path}; export it for this one")


def _episodes(
    file: PolicyFile, stage: Stage, robot: TrackedRobot, tier: Tier, episodes: int, config: VerifyConfig
) -> Evaluation:
    seconds = max(motion.duration_s for motion in stage.motions) + 1.0
    task = TrackingConfig(
        control_hz=stage.control_hz, episode_s=seconds, end_hold_s=0.5, termination=config.termination,
        randomisation=tier.randomisation, reset=ResetConfig.exact(),
    )  # fmt: skip
    backend = CpuBatch(stage.compile(visuals=False), episodes, config.seed, config.threads)
    env = TrackingEnv(backend, robot, stage.motions, task)
    return evaluate(env, SideBySide(file, episodes), round(seconds * stage.control_hz) + 1)


def _summary(tier: Tier, bound: float, result: Evaluation, stage: Stage) -> TierResult:
    successes, trials = int(result.succeeded.sum()), len(result.succeeded)
    names = list(TERMINATIONS)
    causes = [names[index - 1] for index in result.failure[~result.succeeded]]
    return TierResult(
        name=tier.name,
        meaning=tier.meaning,
        episodes=trials,
        success_rate=result.success_rate,
        interval=wilson_interval(successes, trials),
        body_error_m=result.mean_body_error_m,
        failures={cause: causes.count(cause) for cause in sorted(set(causes))},
        failed_at_s=tuple(float(frame) / stage.control_hz for frame in result.failed_frame[~result.succeeded]),
        bound=bound,
    )
