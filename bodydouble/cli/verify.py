"""`bodydouble verify`: on a stage, or with --task for a policy of a task without one."""

from dataclasses import dataclass, field
from pathlib import Path

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
        """JSON to write the result to; one of the same policy, stage and options is not measured again."""
        config: VerifyConfig = field(default_factory=VerifyConfig)
        """Options and thresholds of the gate."""

    options = parse(Options, argv, prog="verify", description="The sim-to-sim gate: the ONNX file in a fresh process.")
    out = options.out
    report = finished_report(out, options.policy, options.stage, options.config) if out else None
    if report is None:
        report = verify(options.policy, options.stage, options.config)
        if out is not None:
            report.save(out)
    print(report)
    return 0 if report.passed else 1


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
