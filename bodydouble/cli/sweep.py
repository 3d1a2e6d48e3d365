"""`bodydouble sweep`: the same training with many settings and seeds, or on many stages, by Ray."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse, task_name


def main(argv: list[str]) -> int:
    """Run `bodydouble sweep`."""
    name = task_name(argv)
    return _on_stages(argv) if name is None else _at_task(name, argv)


def _on_stages(argv: list[str]) -> int:
    from policy.sweep import SweepConfig, run_sweep, stage_trials
    from policy.train import TrainConfig

    @dataclass(frozen=True)
    class Options:
        stage: tuple[Path, ...]
        """Folder of the stage; with several, a policy is trained for each."""
        out: Path = Path("runs/sweep")
        """Folder for sweep.json, sweep.html and the trainings."""
        sweep: SweepConfig = field(default_factory=SweepConfig)
        """What varies, and where it runs."""
        config: TrainConfig = field(default_factory=TrainConfig)
        """Options of every training."""

    description = (
        "Train with many settings and seeds, or on many stages, side by side; a table at the end says which was best. "
        "Tasks without a stage have options of their own: bodydouble sweep --task reach --help."
    )
    options = parse(Options, argv, prog="sweep", description=description)
    trials = stage_trials(options.stage, options.out, options.config, options.sweep)
    print(run_sweep(trials, options.out, options.sweep))
    return 0


def _at_task(name: str, argv: list[str]) -> int:
    from policy.sweep import SweepConfig, run_sweep, task_trials
    from policy.train_task import TaskTrainConfig, default_config
    from sim.tasks.registry import task_config

    kind = task_config(name)

    @dataclass(frozen=True)
    class Options:
        robot: str
        """Name of the robot: unitree_g1, unitree_go1, i2rt_yam or ur5e_2f85."""
        task: str = name
        """The task: velocity, reach or pick."""
        out: Path = Path("runs/sweep")
        """Folder for sweep.json, sweep.html and the trainings."""
        sweep: SweepConfig = field(default_factory=SweepConfig)
        """What varies, and where it runs."""
        config: TaskTrainConfig = field(default_factory=lambda: default_config(name))
        """Options of every training."""
        setup: kind = field(default_factory=kind)  # type: ignore[valid-type]
        """Options of the task."""

    options = parse(
        Options, argv, prog=f"sweep --task {name}", description="Train for a task with many settings and seeds."
    )
    trials = task_trials(options.task, options.robot, options.out, options.config, options.setup, options.sweep)
    print(run_sweep(trials, options.out, options.sweep))
    return 0
