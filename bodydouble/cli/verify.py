"""`bodydouble verify`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble verify`: exit status 0 when the gate passes, 1 when it does not."""
    from sim.gate.verify import VerifyConfig, verify

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """The policy (.onnx)."""
        stage: Path
        """Folder of the stage."""
        out: Path | None = None
        """JSON to write the result to."""
        config: VerifyConfig = field(default_factory=VerifyConfig)
        """Options and thresholds of the gate."""

    options = parse(Options, argv, prog="verify", description="The sim-to-sim gate: the ONNX file in a fresh process.")
    report = verify(options.policy, options.stage, options.config)
    print(report)
    if options.out is not None:
        report.save(options.out)
    return 0 if report.passed else 1
