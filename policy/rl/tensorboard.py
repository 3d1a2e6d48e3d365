"""Curves of a training as TensorBoard's event files, beside the plain log."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from policy.rl.runner import Progress


class Curves:
    """Writes every figure of every update; a context manager that does nothing when it is not wanted."""

    def __init__(self, folder: Path, wanted: bool, from_update: int) -> None:
        """Open the folder.

        Args:
            folder: Folder of the event files.
            wanted: Whether anything is written; otherwise the folder is not made, nor TensorBoard imported.
            from_update: Updates already made: what an interrupted training wrote after them is not shown.
        """
        self._writer = None
        if wanted:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=from_update + 1)
        elif folder.exists():
            shutil.rmtree(folder)

    def __enter__(self) -> Curves:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write out what is buffered."""
        if self._writer is not None:
            self._writer.close()

    def add(self, progress: Progress) -> None:
        """Write the figures of an update."""
        if self._writer is None:
            return
        for name, value in {**progress.stats, "env_steps": float(progress.env_steps)}.items():
            self._writer.add_scalar(name, value, progress.update)
