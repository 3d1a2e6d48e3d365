"""`bodydouble train`: on a stage, or with --task for a task without one."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse, task_name


def main(argv: list[str]) -> int:
    """Run `bodydouble train`."""
    name = task_name(argv)
    return _on_stage(argv) if name is None else _at_task(name, argv)


def _on_stage(argv: list[str]) -> int:
    from policy.train import TrainConfig, train

    @dataclass(frozen=True)
    class Options:
        stage: Path
        """Folder of the stage."""
        out: Path = Path("runs/policy")
        """Folder for policy.safetensors, policy.json and the log."""
        config: TrainConfig = field(default_factory=TrainConfig)
        """Options of the training."""

    description = (
        "Train or fine-tune a policy on a stage. Tasks without a stage (velocity, reach, pick) have options of their "
        "own: bodydouble train --task reach --help."
    )
    options = parse(Options, argv, prog="train", description=description)
    print(train(options.stage, options.out, options.config))
    return 0


def _at_task(name: str, argv: list[str]) -> int:
    from policy.train_task import TaskTrainConfig, default_config, train_task
    from sim.tasks.registry import task_config

    kind = task_config(name)

    @dataclass(frozen=True)
    class Options:
        robot: str
        """Name of the robot: unitree_g1, unitree_go1, i2rt_yam or ur5e_2f85."""
        task: str = name
        """The task: velocity, reach or pick."""
        out: Path = Path("runs/policy")
        """Folder for policy.safetensors, policy.json and the log."""
        config: TaskTrainConfig = field(default_factory=lambda: default_config(name))
        """Options of the training."""
        setup: kind = field(default_factory=kind)  # type: ignore[valid-type]
        """Options of the task."""

    options = parse(
        Options, argv, prog=f"train --task {name}", description="Train a policy for a task without a stage."
    )
    print(train_task(options.task, options.robot, options.out, options.config, options.setup))
    return 0
