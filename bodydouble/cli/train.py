"""`bodydouble train`: on a stage, or with --task for a task without one."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse, task_name


def main(argv: list[str]) -> int:
    """Run `bodydouble train`."""
    name = task_name(argv)
    return _on_stage(argv) if name is None else _at_task(name, argv)


def _on_stage(argv: list[str]) -> int:
    from policy.cluster import ClusterConfig
    from policy.rl.ranks import joined
    from policy.train import TrainConfig, train

    @dataclass(frozen=True)
    class Options:
        stage: tuple[Path, ...]
        """Folder of the stage; with several, one policy learns in all of them."""
        out: Path = Path("runs/policy")
        """Folder for policy.safetensors, policy.json and the log."""
        profile: bool = False
        """Record where the time of a few updates goes, into the folder "profile" of the output."""
        machines: ClusterConfig = field(default_factory=ClusterConfig)
        """Where the workers of several stages run."""
        config: TrainConfig = field(default_factory=TrainConfig)
        """Options of the training."""

    description = (
        "Train or fine-tune a policy on a stage. Tasks without a stage (velocity, reach, pick) have options of their "
        "own: bodydouble train --task reach --help."
    )
    options = parse(Options, argv, prog="train", description=description)
    with joined() as ranks:
        trained = train(
            options.stage, options.out, options.config, ranks=ranks, profile=options.profile, machines=options.machines
        )
        if ranks.first:
            print(trained)
    return 0


def _at_task(name: str, argv: list[str]) -> int:
    from policy.rl.ranks import joined
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
        profile: bool = False
        """Record where the time of a few updates goes, into the folder "profile" of the output."""
        config: TaskTrainConfig = field(default_factory=lambda: default_config(name))
        """Options of the training."""
        setup: kind = field(default_factory=kind)  # type: ignore[valid-type]
        """Options of the task."""

    options = parse(
        Options, argv, prog=f"train --task {name}", description="Train a policy for a task without a stage."
    )
    with joined(gpu=options.config.backend == "warp") as ranks:
        trained = train_task(
            options.task, options.robot, options.out, options.config, options.setup, ranks=ranks,
            profile=options.profile,
        )  # fmt: skip
        if ranks.first:
            print(trained)
    return 0
