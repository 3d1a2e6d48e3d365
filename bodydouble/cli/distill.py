"""`bodydouble distill`: a student that sees only what a robot has learns what a teacher does."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse, task_name
from bodydouble.errors import InputError


def main(argv: list[str]) -> int:
    """Run `bodydouble distill`."""
    from policy.distil import DistilConfig, distil_task
    from sim.tasks.registry import task_config, task_names

    # The task decides the options; --help alone shows those of the first one.
    name = task_name(argv) or (task_names()[0] if {"-h", "--help"} & set(argv) else None)
    if name is None:
        raise InputError(f"distill needs --task, one of {', '.join(task_names())}")
    kind = task_config(name)

    @dataclass(frozen=True)
    class Options:
        robot: str
        """Name of the robot: unitree_g1, unitree_go1, i2rt_yam or ur5e_2f85."""
        teacher: Path
        """Folder or checkpoint of the teacher: a training for the task, also with --config.privileged."""
        task: str = name
        """The task: velocity, reach or pick."""
        out: Path = Path("runs/student")
        """Folder for policy.safetensors, policy.json and the log."""
        config: DistilConfig = field(default_factory=DistilConfig)
        """Options of the imitation."""
        setup: kind = field(default_factory=kind)  # type: ignore[valid-type]
        """Options of the task."""

    description = "Make a policy that sees only what the robot has from a teacher that may see more (DAgger)."
    options = parse(Options, argv, prog="distill", description=description)
    print(distil_task(options.task, options.robot, options.teacher, options.out, options.config, options.setup))
    return 0
