"""`bodydouble verify`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble verify`: exit status 0 when the gate passes, 1 when it does not."""
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
