"""Exact resume: all that a training's next update depends on, in one checkpoint, and back."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from bodydouble.artifacts import atomic_file
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_policy, save_checkpoint
from policy.optim.state import load_optimizer_tensors
from policy.rl.training import Training


def save_training(path: Path, runner: Training, info: CheckpointInfo) -> None:
    """Write network, optimizer, random state and the task's episodes; the previous file survives a failure.

    Args:
        path: The checkpoint to write.
        runner: The training, between two updates.
        info: What the checkpoint says of itself; `extra` gets the training's own entries beside those given.

    Raises:
        TrainingError: The file could not be written.
    """
    learner = runner.learner
    extra = {
        **info.extra,
        "lr": learner.lr,
        "ppo": learner.state(),
        "optimizer": asdict(learner.config.optimizer),
        "progress": {"update": runner.update, "env_steps": runner.env_steps, "seconds": runner.seconds},
    }
    save_checkpoint(path, learner.net, replace(info, extra=extra), learner.optimizer, runner.snapshot())


def resume_training(path: Path, runner: Training) -> bool:
    """Bring a freshly made runner to where `save_training` found its own.

    The runner must have been made from the same task, seed and settings.

    Returns:
        Whether the training goes on exactly. It does not where the task's state was not saved (a simulation on a GPU):
        its episodes then begin anew, and the curve is another one than without the interruption.

    Raises:
        InputError: The checkpoint is of another network, optimizer or task, or holds no training.
    """
    net, info, tensors = load_policy(path, runner.device)
    learner = runner.learner
    if "ppo" not in info.extra or "progress" not in info.extra:
        raise InputError(f"{path}: holds a policy but no training to go on with; start from it, or give the full one")
    saved, own = info.extra["optimizer"].get("name"), learner.config.optimizer.name
    if saved != own:
        raise InputError(f"{path}: was trained with optimizer {saved}, this training has {own}; use the same one")
    try:
        learner.net.load_state_dict(net.state_dict())
    except RuntimeError as error:
        raise InputError(f"{path}: is of another network ({' '.join(str(error).split())[:200]})") from None
    optimizer = {name.removeprefix("optimizer."): t for name, t in tensors.items() if name.startswith("optimizer.")}
    load_optimizer_tensors(learner.optimizer, optimizer)
    learner.load_state(info.extra["ppo"])
    progress = info.extra["progress"]
    runner.update, runner.env_steps, runner.seconds = progress["update"], progress["env_steps"], progress["seconds"]
    return runner.restore(tensors)


def trim_log(log: Path, update: int) -> None:
    """Cut a log's lines after an update: what came after the checkpoint is trained again."""
    kept = []
    with contextlib.suppress(FileNotFoundError):
        for line in log.read_text().splitlines():
            try:
                if json.loads(line)["update"] > update:
                    break
            except (ValueError, KeyError):
                # A line that was being written when the training was killed.
                break
            kept.append(line + "\n")
        with atomic_file(log) as temporary:
            temporary.write_text("".join(kept))
