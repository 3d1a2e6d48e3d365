"""Ray: trials and workers on this machine or on many. An optional package, imported only where it is used."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bodydouble.errors import BodydoubleError, InputError, TrainingError


@dataclass(frozen=True)
class ClusterConfig:
    """Where Ray runs."""

    address: str = "local"
    """"local" starts Ray here for as long as the command runs; "auto", or HOST:PORT, joins the machines of `ray start`,
    which all have bodydouble and see the same folders."""
    cpus: int = 1
    """Cores, and threads, of each worker."""
    gpus: float = 0.0
    """GPUs of each worker; 0.5 lets two share one."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: A worker would have no core, or less than no GPU.
        """
        if self.cpus < 1 or self.gpus < 0:
            raise InputError(f"cluster.cpus is {self.cpus} and cluster.gpus {self.gpus:g}, expected >= 1 and >= 0")


@contextlib.contextmanager
def cluster(config: ClusterConfig, workers: int, least: int = 1) -> Iterator[Any]:
    """Start or join Ray, yield its module, and leave.

    Args:
        config: Where.
        workers: Workers that a Ray of this machine's own has room for, even if it has fewer cores.
        least: Workers without which nothing goes on.

    Raises:
        InputError: Ray is not installed, cannot be reached, or has too few cores or GPUs: it would wait forever.
    """
    # Before the import: it phones home otherwise, and copies the environment of `uv run`.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError("this needs Ray; pip install 'bodydouble[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if config.address == "local":
        cpus = max(os.cpu_count() or 1, workers * config.cpus)
        options |= {"address": "local", "include_dashboard": False, "num_cpus": cpus}
    else:
        options["address"] = config.address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"Ray at {config.address} cannot be reached ({' '.join(str(error).split())[:200]}); start it with "
            "`ray start --head`, or leave the address local"
        ) from None
    try:
        found = ray.cluster_resources()
        for name, each in (("CPU", config.cpus), ("GPU", config.gpus)):
            there, needed = found.get(name, 0.0), least * each
            if there < needed:
                raise InputError(f"Ray at {config.address} has {there:g} {name}s, {least} workers need {needed:g}")
        yield ray
    finally:
        ray.shutdown()


def cause_of(error: Exception, who: str) -> BodydoubleError:
    """Return what ended a worker as an error of ours: its own one, or what Ray says of a process that died."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BodydoubleError):
        return type(cause)(f"{who}: {cause}")
    if cause is not None:
        return TrainingError(f"{who} failed: {type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return TrainingError(f"{who}: its process ended ({type(error).__name__}: {' '.join(lines)[:200]})")
