"""`bodydouble export`."""

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse
from bodydouble.errors import InputError


def main(argv: list[str]) -> int:
    """Run `bodydouble export`."""

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """Folder or policy.safetensors of a trained policy."""
        stage: Path | None = None
        """Folder of the stage it runs on; without one, the policy is of a task (`bodydouble train --task`)."""
        out: Path = Path("runs/policy/policy.onnx")
        """ONNX file to write."""
        int8: bool = False
        """Whether its weights have 8 bits: a third of the file; what it changes is measured."""

    options = parse(
        Options, argv, prog="export", description="Checkpoint -> ONNX with its contract and golden vectors."
    )
    if options.stage is not None:
        from policy.export import export

        print(export(options.policy, options.stage, options.out, int8=options.int8))
        return 0
    from policy.export_task import export_task

    if options.int8:
        raise InputError("8-bit weights are only for a policy with a stage; leave --int8 out, or give --stage")
    print(export_task(options.policy, options.out))
    return 0
