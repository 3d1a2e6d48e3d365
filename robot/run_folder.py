"""The folder of a run while it is made: complete it takes its place; after a failure what was recorded is kept."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bodydouble.artifacts import atomic_dir
from bodydouble.errors import BodydoubleError

RUN_FILE = "run.mcap"
"""The recording of a run."""


@contextlib.contextmanager
def run_folder(out: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `out` on success.

    After an error, or Ctrl-C, a folder that holds anything is kept beside it as `out.failed`, `out.failed-2`, ...: what
    happened on a robot cannot be made again. The error says where.

    Args:
        out: The run's folder.
    """
    with atomic_dir(out) as folder:
        try:
            yield folder
        except BaseException as error:
            said = _keep(folder, out)
            if said and isinstance(error, BodydoubleError):
                raise type(error)(f"{error}; {said}") from error
            if said:
                print(said, file=sys.stderr)
            raise


def _keep(folder: Path, out: Path) -> str:
    """Move what there is out of harm's way; return what to say of it."""
    if not any(folder.iterdir()):
        return ""
    names = (
        out.with_name(f"{out.name}.failed{end}") for end in itertools.chain([""], (f"-{n}" for n in range(2, 1000)))
    )
    kept = next(name for name in names if not name.exists())
    os.replace(folder, kept)
    unfinished = kept / f"{RUN_FILE}.tmp"
    if unfinished.exists():
        return f"what was recorded is kept: `bodydouble recover {unfinished} {kept / RUN_FILE}` reads it"
    what = "what was recorded is" if (kept / RUN_FILE).exists() else "nothing was recorded, what the nodes said is"
    return f"{what} kept in {kept}"
