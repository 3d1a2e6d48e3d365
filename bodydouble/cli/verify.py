"""`bodydouble verify`: on a stage, or with --task for a policy of a task without one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodydouble.cli.options import parse, task_name


def main(argv: list[str]) -> int:
    """Run `bodydouble verify`: exit status 0 when the gate passes, 1 when it does not."""
    name = task_name(argv)
    return _on_stage(argv) if name is None else _at_task(name, argv)


def _on_stage(argv: list[str]) -> int:
    from sim.gate.verify import VerifyConfig, finished_report, verify

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """The policy (.onnx)."""
        stage: Path
        """Folder of the stage."""
        out: Path | None = None
        """JSON to write the result to, with a picture and recordings of failed episodes beside it; a result of the same
        policy, stage and options is not measured again."""
        episode: int | None = None
        """Run only the episode with this seed again, as the result names it, with --tier; status 0 when it succeeds."""
        tier: str | None = None
        """Tier of that episode, T0 to T4."""
        record: Path | None = None
        """MCAP file to write that episode to; `bodydouble replay --run` repeats it."""
        config: VerifyConfig = field(default_factory=VerifyConfig)
        """Options and thresholds of the gate."""

    options = parse(Options, argv, prog="verify", description="The sim-to-sim gate: the ONNX file in a fresh process.")
    if options.episode is not None or options.tier is not None or options.record is not None:
        return _again(options)
    out = options.out
    report = finished_report(out, options.policy, options.stage, options.config) if out else None
    if report is None:
        recordings = None if out is None else out.with_name(f"{out.stem}_failures")
        report = verify(options.policy, options.stage, options.config, recordings)
        if out is not None:
            report.save(out)
            _draw(report, out.with_suffix(".png"))
    print(report)
    return 0 if report.passed else 1


def _again(options: Any) -> int:
    """Run one episode again."""
    from bodydouble.errors import InputError
    from sim.gate.verify import verify_episode

    if options.episode is None or options.tier is None:
        raise InputError("--episode, --tier and --record belong together: give the seed and the tier of an episode")
    if options.record is not None and options.record.suffix != ".mcap":
        raise InputError(f"{options.record}: expected a name that ends in .mcap")
    episode = verify_episode(
        options.policy, options.stage, options.tier, options.episode, options.config, options.record
    )
    outcome = f"failed after {episode.lasted_s:.2f} s: {episode.cause}" if episode.cause else "followed to the end"
    print(
        f"{options.tier} episode {episode.seed}: {outcome}, body error {1000 * episode.body_error_m:.1f} mm\n"
        f"trajectory {episode.trajectory_sha256}"
    )
    if options.record is not None:
        print(options.record)
    return 1 if episode.cause else 0


def _draw(report: Any, path: Path) -> None:
    """Draw the report, where the drawing library is installed."""
    try:
        from bodydouble.report.gate_plot import gate_plot
    except ModuleNotFoundError as error:
        print(f"no picture: {error.name} is not installed; pip install 'bodydouble[report]'")
        return
    from bodydouble.artifacts import atomic_file

    verdict = "passed" if report.passed else "NOT passed"
    with atomic_file(path) as temporary:
        temporary.write_bytes(gate_plot([vars(tier) for tier in report.tiers], f"{report.policy.name}: {verdict}"))


def _at_task(name: str, argv: list[str]) -> int:
    from sim.env.task_gate import TaskGateConfig, verify_task
    from sim.tasks.registry import task_config

    kind = task_config(name)

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """The policy (.onnx)."""
        task: str = name
        """The task: velocity, reach or pick."""
        out: Path | None = None
        """JSON to write the result to."""
        config: TaskGateConfig = field(default_factory=TaskGateConfig)
        """Options and threshold of the gate."""
        setup: kind = field(default_factory=kind)  # type: ignore[valid-type]
        """Options of the task, as it was trained."""

    options = parse(Options, argv, prog=f"verify --task {name}", description="The gate for a policy of a task.")
    report = verify_task(options.policy, options.task, options.config, options.setup)
    if options.out is not None:
        report.save(options.out)
    print(report)
    return 0 if report.passed else 1
