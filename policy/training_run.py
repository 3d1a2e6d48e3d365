"""What every training shares: its unfinished folder, going on after an interruption, the loop and its progress bar."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from policy.checkpoint import load_checkpoint
from policy.rl import runner as rl
from policy.rl.resume import resume_training, trim_log
from policy.rl.tensorboard import Curves

CHECKPOINT_FILE = "policy.safetensors"
"""The trained network."""
MANIFEST_FILE = "policy.json"
"""What it was trained from and how well it does."""
LOG_FILE = "log.jsonl"
"""One line per update."""
CURVES_FOLDER = "tensorboard"
"""The same for TensorBoard, if asked for."""
TRAINING_FILE = "training.safetensors"
"""The unfinished training, in the folder that `unfinished` names."""


def unfinished(out: Path) -> Path:
    """Return the folder, beside `out`, of the checkpoints and the log of a training that has not ended."""
    return out.with_name(f".{out.name}.unfinished")


def go_on(runner: rl.Runner, work: Path, key: str) -> int:
    """Resume an interrupted training of the same inputs, or clear the folder; return the update to go on from."""
    path = work / TRAINING_FILE
    if path.is_file() and load_checkpoint(path)[1].extra.get("inputs") == key:
        resume_training(path, runner)
        trim_log(work / LOG_FILE, runner.update)
        return runner.update
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    return 0


def run_updates(
    runner: rl.Runner,
    updates: int,
    log: Path,
    dump: Path,
    curves: Curves,
    checkpoint_every: int,
    save: Callable[[rl.Progress], None],
) -> rl.Progress:
    """Train up to a number of updates.

    Args:
        runner: The training.
        updates: Updates in all, those before an interruption counted.
        log: JSON-lines file that gets one line per update.
        dump: File that receives rollout and network when the losses diverge.
        curves: Curves for TensorBoard.
        checkpoint_every: Updates between calls of `save`; 0 makes none.
        save: Writes a checkpoint.

    Raises:
        TrainingError: The losses diverged, or a checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    if runner.update >= updates:
        # It was interrupted after its last update.
        return rl.Progress(runner.update, runner.env_steps, runner.seconds, {})
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("updates, reward {task.fields[reward]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=updates, completed=runner.update, reward=0.0)

        def on_update(progress: rl.Progress) -> None:
            bar.update(task, completed=progress.update, reward=progress.stats["reward"])
            curves.add(progress)
            if checkpoint_every and progress.update % checkpoint_every == 0:
                save(progress)

        return runner.train(lambda progress: progress.update >= updates, on_update, log=log, dump=dump)
