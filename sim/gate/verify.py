"""`verify`: an ONNX file against a stage, in MuJoCo, through the runtime that drives the robot, tier by tier."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bodydouble.artifacts import inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import ContractError, InputError
from robot.policy_file import PolicyFile
from sim.gate.episodes import Episode, run_episodes
from sim.gate.record import record_episode
from sim.gate.tiers import TIERS, Tier
from sim.gate.wilson import wilson_interval
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TerminationConfig

MAX_EPISODES = 1000
"""Most episodes of a tier; episode e of seed s has the seed 1000 s + e."""


@dataclass(frozen=True)
class VerifyConfig:
    """How hard the gate is."""

    episodes: int = 24
    """Episodes of each tier but T0, which has nothing random and needs one."""
    seed: int = 0
    """Seed; every policy meets the same perturbations with the same seed. Episode e has the seed 1000 * seed + e."""
    threads: int = 0
    """Threads of the simulation; 0 takes every core."""
    max_body_error_m: float = 0.12
    """Largest mean body error in T0, m."""
    min_success: tuple[float, ...] = (1.0, 0.9, 0.8, 0.0, 0.0)
    """Smallest success rate of T0 to T4; 0 only reports."""
    recordings: int = 3
    """Most failed episodes of a tier that are recorded, where the result is written to a file."""
    termination: TerminationConfig = field(default_factory=TerminationConfig)
    """What counts as a failure."""

    def __post_init__(self) -> None:
        if len(self.min_success) != len(TIERS) or not 1 <= self.episodes <= MAX_EPISODES:
            raise InputError(
                f"config.min_success needs {len(TIERS)} values and config.episodes at least 1, at most {MAX_EPISODES}"
            )
        if self.seed < 0 or self.recordings < 0:
            raise InputError("config.seed and config.recordings must not be negative")


@dataclass(frozen=True)
class FailedEpisode:
    """An episode that failed."""

    seed: int
    """Its seed: `--episode SEED --tier NAME` runs it again."""
    cause: str
    """Why it failed."""
    at_s: float
    """Time of the reference at which it failed, s."""
    trajectory_sha256: str
    """Hash of its trajectory, bit by bit."""
    recording: str = ""
    """Its MCAP file, beside the result; empty where it was not recorded."""


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
    """Success rate that is asked for; 0 only reports."""
    failed: tuple[FailedEpisode, ...] = ()
    """The failed episodes."""


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
        """One line per tier, with what is asked for and why episodes failed, then the verdict."""
        lines = [
            f"{t.name} success {t.success_rate:.2f} [{t.interval[0]:.2f}, {t.interval[1]:.2f}] of {t.episodes}, "
            f"{f'asked {t.bound:.2f}' if t.bound > 0 else 'reported only'}, body error {1000 * t.body_error_m:.0f} mm "
            f"({t.meaning}){_causes(t)}"
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
                "thresholds": {
                    "min_success": {t.name: t.bound for t in self.tiers},
                    "max_body_error_m": self.origin["config"]["max_body_error_m"],
                },
                "tiers": [asdict(tier) for tier in self.tiers],
                "figures": self.figures,
            },
        )


def finished_report(path: Path, policy: Path, stage_path: Path, config: VerifyConfig) -> VerifyReport | None:
    """Return the report in a file, or None where it is of another policy, stage or configuration."""
    if not is_current(path, inputs_hash(config, {"policy": policy, "stage": stage_path})):
        return None
    data = read_json(path)
    tiers = tuple(_tier_result(tier) for tier in data["tiers"])
    return VerifyReport(policy, tiers, tuple(data["problems"]), data["figures"], data["provenance"])


def _tier_result(data: dict[str, Any]) -> TierResult:
    lists = {name: tuple(data[name]) for name in ("interval", "failed_at_s")}
    failed = tuple(FailedEpisode(**episode) for episode in data["failed"])
    return TierResult(**{**data, **lists, "failed": failed})


def verify(
    policy: Path, stage_path: Path, config: VerifyConfig | None = None, recordings: Path | None = None
) -> VerifyReport:
    """Judge a policy file on a stage.

    The file is loaded as on the robot (contract, weights' hash, golden vectors) and driven by the robot's runtime, its
    safety layer included; success is following the whole reference from its start.

    Args:
        policy: The ONNX file.
        stage_path: Folder of the stage.
        config: Thresholds.
        recordings: Folder that receives an MCAP file of the first failed episodes of each tier; none are written
            without it.

    Raises:
        ContractError: The file is refused, or is for another robot, rate or observation.
        InputError: The stage cannot be used.
    """
    config = config or VerifyConfig()
    file, stage = PolicyFile(policy), Stage.load(stage_path)
    check_stage(file, stage)
    results = []
    for tier, bound in track(
        list(zip(TIERS, config.min_success, strict=True)), "verifying", console=Console(stderr=True)
    ):
        count = len(stage.motions) if tier.name == "T0" else config.episodes
        seeds = [MAX_EPISODES * config.seed + number for number in range(count)]
        episodes = run_episodes(file, stage, tier, seeds, config.termination, config.threads)
        failed = [episode for episode in episodes if episode.cause]
        kept: dict[int, str] = {}
        if recordings is not None:
            for episode in failed[: config.recordings]:
                kept[episode.seed] = f"{recordings.name}/{tier.name}_{episode.seed}.mcap"
                path = recordings.parent / kept[episode.seed]
                record_episode(path, file, stage, tier, episode.seed, config.termination)
        results.append(_summary(tier, bound, episodes, kept))
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


def verify_episode(
    policy: Path, stage_path: Path, tier: str, seed: int, config: VerifyConfig | None = None, out: Path | None = None
) -> Episode:
    """Run one episode of the gate again, the same bit for bit.

    Args:
        policy: The ONNX file.
        stage_path: Folder of the stage.
        tier: T0 to T4.
        seed: The episode's seed, as the result names it.
        config: What counts as a failure.
        out: MCAP file to write; none is written without it.

    Raises:
        ContractError: The file is refused, or is for another robot, rate or observation.
        InputError: The stage cannot be used, or there is no such tier or seed.
    """
    config = config or VerifyConfig()
    chosen = next((one for one in TIERS if one.name == tier), None)
    if chosen is None or seed < 0:
        raise InputError(f"tier {tier!r}, seed {seed}: expected T0 to T{len(TIERS) - 1}, and a seed of at least 0")
    file, stage = PolicyFile(policy), Stage.load(stage_path)
    check_stage(file, stage)
    if out is None:
        return run_episodes(file, stage, chosen, [seed], config.termination, 1)[0]
    return record_episode(out, file, stage, chosen, seed, config.termination)


def check_stage(file: PolicyFile, stage: Stage) -> None:
    """Compare a policy's contract with a stage.

    Raises:
        ContractError: Robot, joints or rates differ, or the policy follows no motion or was exported for another stage.
    """
    contract = file.contract
    file.check_robot(stage.robot.name, stage.robot.joint_names)
    if not contract.follows_reference:
        raise ContractError(f"{file.path}: follows no reference motion; verify it with --task")
    for name in ("control_hz", "physics_dt"):
        if getattr(contract, name) != getattr(stage, name):
            raise ContractError(
                f"{file.path}: was trained at {name} {getattr(contract, name)}, the stage has {getattr(stage, name)}"
            )
    if contract.hashes.get("stage") != stage.sha256:
        raise ContractError(f"{file.path}: was exported for another stage than {stage.path}; export it for this one")


def _summary(tier: Tier, bound: float, episodes: list[Episode], kept: dict[int, str]) -> TierResult:
    failed = tuple(
        FailedEpisode(e.seed, e.cause, e.lasted_s, e.trajectory_sha256, kept.get(e.seed, ""))
        for e in episodes
        if e.cause
    )
    causes = [episode.cause for episode in failed]
    won = len(episodes) - len(failed)
    return TierResult(
        name=tier.name,
        meaning=tier.meaning,
        episodes=len(episodes),
        success_rate=won / len(episodes),
        interval=wilson_interval(won, len(episodes)),
        body_error_m=sum(episode.body_error_m for episode in episodes) / len(episodes),
        failures={cause: causes.count(cause) for cause in sorted(set(causes))},
        failed_at_s=tuple(episode.at_s for episode in failed),
        bound=bound,
        failed=failed,
    )


def _causes(tier: TierResult) -> str:
    if not tier.failures:
        return ""
    causes = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in tier.failures.items())
    return f"; failed: {causes}"
