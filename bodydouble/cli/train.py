"""`bodydouble train`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble train`."""
    from policy.train import TrainConfig, train

    @dataclass(frozen=True)
    class Options:
        stage: Path
        """Folder of the stage."""
        out: Path = Path("runs/policy")
        """Folder for policy.safetensors, policy.json and the log."""
        config: TrainConfig = field(default_factory=TrainConfig)
        """Options of the training."""

    options = parse(Options, argv, prog="train", description="Train or fine-tune a policy on a stage.")
    print(train(options.stage, options.out, options.config))
    return 0
