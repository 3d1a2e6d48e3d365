"""One number of threads for the simulation and for torch: they take turns, so both get all, and neither more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from bodydouble.errors import InputError


def use_threads(threads: int) -> int:
    """Set torch's threads and return the number that the simulation is to take too.

    Args:
        threads: Number of threads; 0 takes every core that this process may use, or its share of them where torchrun
            started several on this machine.

    Raises:
        InputError: The number is negative.
    """
    if threads < 0:
        raise InputError(f"config.threads is {threads}, expected 0 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Processes that torchrun started side by side share the machine.
    count = threads or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(count)
    return count


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work with one thread meanwhile: its sums are then the same bits whatever number it has otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
