"""`bodydouble export`."""

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble export`."""
    from policy.export import export

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """Folder or policy.safetensors of a trained policy."""
        stage: Path
        """Folder of the stage it runs on."""
        out: Path = Path("runs/policy/policy.onnx")
        """ONNX file to write."""
        int8: bool = False
        """Whether its weights have 8 bits: a third of the file; what it changes is measured."""

    options = parse(
        Options, argv, prog="export", description="Checkpoint -> ONNX with its contract and golden vectors."
    )
    print(export(options.policy, options.stage, options.out, int8=options.int8))
    return 0
