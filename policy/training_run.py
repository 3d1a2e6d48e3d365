"""What every training shares: its unfinished folder, going on after an interruption, the loop and its progress bar."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bodydouble.artifacts import is_current, read_json
from policy.checkpoint import CheckpointInfo, load_policy
from policy.rl.phases import Profile
from policy.rl.ranks import Ranks
from policy.rl.resume import resume_training, save_training, trim_log
from policy.rl.tensorboard import Curves
from policy.rl.training import Progress, Training

CHECKPOINT_FILE = "policy.safetensors"
"""The trained network."""
MANIFEST_FILE = "policy.json"
"""What it was trained from and how well it does."""
LOG_FILE = "log.jsonl"
"""One line per update."""
CURVES_FOLDER = "tensorboard"
"""The same for TensorBoard, if asked for."""
PROFILE_FOLDER = "profile"
"""Where the time of a few updates went, if asked for."""
TRAINING_FILE = "training.safetensors"
"""The unfinished training, in the folder that `unfinished` names."""


def unfinished(out: Path) -> Path:
    """Return the folder, beside `out`, of the checkpoints and the log of a training that has not ended."""
    return out.with_name(f".{out.name}.unfinished")


def finished_training(out: Path, key: str, ranks: Ranks) -> dict[str, Any] | None:
    """Return the manifest of a finished training of the same inputs, which the first rank has; None without one."""
    manifest = out / MANIFEST_FILE
    found = read_json(manifest) if ranks.first and is_current(manifest, key) else None
    return json.loads(ranks.from_first(json.dumps(found).encode()))


def go_on(runner: Training, work: Path, key: str) -> int:
    """Resume an interrupted training of the same inputs, or clear the folder; return the update to go on from.

    The first rank's files count; the others need none.
    """
    path, ranks = work / TRAINING_FILE, runner.ranks
    found = ranks.first and path.is_file() and load_policy(path)[1].extra.get("inputs") == key
    with ranks.local_copy(path if found else None) as saved:
        if saved is not None:
            resume_training(saved, runner)
    if not ranks.first:
        return runner.update
    if found:
        trim_log(work / LOG_FILE, runner.update)
        return runner.update
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    return 0


@dataclass(frozen=True)
class Course:
    """How the updates of a training are made, whatever is trained."""

    work: Path
    """Folder of what is unfinished; see `unfinished`."""
    key: str
    """Hash of the training's inputs: only a training of the same is gone on with."""
    updates: int
    """Updates in all, those before an interruption counted."""
    checkpoint_every: int
    """Updates between checkpoints; 0 makes none."""
    dump: Path
    """File that receives rollout and network when the losses diverge."""
    tensorboard: bool
    """Whether to write curves."""
    profile: bool
    """Whether to record where the time of a few updates goes."""


def run_course(runner: Training, course: Course, info: Callable[[Progress, dict[str, Any]], CheckpointInfo]) -> Ran:
    """Go on from where an interrupted training stood, or begin, and make all updates.

    The first rank alone writes log, curves, checkpoints and progress.

    Args:
        runner: The training.
        course: How.
        info: Returns what a checkpoint says of itself, given the progress and further entries.

    Raises:
        TrainingError: The losses diverged, or a checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    begun_at = go_on(runner, course.work, course.key)
    ranks = runner.ranks

    def save(progress: Progress) -> None:
        if ranks.first:
            save_training(course.work / TRAINING_FILE, runner, info(progress, {"inputs": course.key}))
        else:
            # What it holds goes to the first one.
            runner.snapshot()

    with contextlib.ExitStack() as stack:
        watchers: list[Callable[[Progress], None]] = []
        if ranks.first:
            curves = stack.enter_context(Curves(course.work / CURVES_FOLDER, course.tensorboard, begun_at))
            watchers.append(curves.add)
        profiled = None
        if course.profile and ranks.first:
            # The first update also loads and compiles; where there is no other, it is better than none.
            skip = 1 if course.updates - begun_at > 1 else 0
            profiled = stack.enter_context(Profile(course.work / PROFILE_FOLDER, skip=skip))
            watchers.append(lambda _: profiled.after_update())
        last = run_updates(runner, course, watchers, save)
    return Ran(last, begun_at, profiled.done if profiled else None)


@dataclass(frozen=True)
class Ran:
    """A training after its last update."""

    last: Progress
    """Its state."""
    begun_at: int
    """Updates that an interrupted training had made before; 0 for none."""
    profile: str | None
    """Where the time went, as text, if it was asked for."""


def keep_logs(work: Path, folder: Path) -> None:
    """Copy log, curves and profile of a finished training to where its policy is."""
    shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
    for name in (CURVES_FOLDER, PROFILE_FOLDER):
        if (work / name).is_dir():
            shutil.copytree(work / name, folder / name)


def rank_file(path: Path, ranks: Ranks) -> Path:
    """Return the name of a file that every rank writes for itself; the first one's is the given one."""
    return path if ranks.first else path.with_name(f"{path.stem}_rank{ranks.rank}{path.suffix}")


def run_updates(
    runner: Training, course: Course, watchers: Sequence[Callable[[Progress], None]], save: Callable[[Progress], None]
) -> Progress:
    """Train up to a number of updates.

    Args:
        runner: The training.
        course: How.
        watchers: Called after each update.
        save: Writes a checkpoint, or helps to.

    Raises:
        TrainingError: The losses diverged, or a checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    updates, every = course.updates, course.checkpoint_every
    if runner.update >= updates:
        # It was interrupted after its last update.
        return Progress(runner.update, runner.env_steps, runner.seconds, {})
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("updates, reward {task.fields[reward]:.4f}"),
        TimeRemainingColumn(),
    )
    first = runner.ranks.first
    with Bar(*columns, console=Console(stderr=True), disable=not first) as bar:
        task = bar.add_task("training", total=updates, completed=runner.update, reward=0.0)

        def on_update(progress: Progress) -> None:
            bar.update(task, completed=progress.update, reward=progress.stats["reward"])
            for watch in watchers:
                watch(progress)
            if every and progress.update % every == 0:
                save(progress)

        log = course.work / LOG_FILE if first else None
        return runner.train(lambda progress: progress.update >= updates, on_update, log=log, dump=course.dump)
