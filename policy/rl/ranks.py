"""Ranks: the processes that train one network together, each with environments of its own (data parallelism).

Every rank collects, computes gradients on its own minibatch, and steps by the mean of all ranks' gradients: the same
step everywhere, and that of one process with all the environments. What a rank does alone stays its own (episodes,
noise, order of the minibatches); what decides about the network is agreed: the normalisation of the advantages, the KL
divergence that steers the learning rate, the observation normaliser. Nothing that is sent is pickled.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from bodydouble.errors import InputError, TrainingError

SEED_STRIDE = 7_368_787
"""Distance of the ranks' seeds; larger than that of the actors of one rank."""
TIMEOUT_S = 1800.0
"""How long a rank waits for the others, s: as long as the first one may judge a policy while the others wait."""
_WORDS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_Result = TypeVar("_Result")


class Ranks:
    """A training's only process: everything is already agreed."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this one writes checkpoints, log and progress, and judges."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return this rank's own seed; the first one's is the given one."""
        return seed + SEED_STRIDE * self.rank

    def average_gradients(self, params: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the ranks."""

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the ranks."""
        return tensor

    def standardised(self, x: torch.Tensor) -> torch.Tensor:
        """Return values (B,) with mean 0 and standard deviation 1 over all ranks, each of which has B."""
        return (x - x.mean()) / (x.std() + 1e-8)

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Return mean (P,), variance (P,) and number of the rows (B, P) of all ranks, each of which has B."""
        return x.mean(dim=0), x.var(dim=0, unbiased=False), float(x.shape[0])

    def mean_stats(self, stats: dict[str, float]) -> dict[str, float]:
        """Return the mean of figures over the ranks that have them."""
        return stats

    def gather_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return all ranks' tensors on the first rank, those of rank R > 0 as "rankR.NAME"; none on the others."""
        return tensors

    def own_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return this rank's part of what `gather_tensors` returned, under its own names."""
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("rank")}

    def from_first(self, data: bytes) -> bytes:
        """Return what the first rank hands in; the others' argument does not count."""
        return data

    @contextlib.contextmanager
    def local_copy(self, path: Path | None) -> Iterator[Path | None]:
        """Yield a path to the first rank's file for as long as it is read, None where that has none."""
        yield path

    def start_alike(self, net: torch.nn.Module) -> None:
        """Give every rank the first one's network."""

    def check_alike(self, net: torch.nn.Module, lr: float) -> None:
        """Compare networks and learning rates bit for bit.

        Raises:
            TrainingError: They differ.
        """


class ProcessRanks(Ranks):
    """One of several processes, by torch.distributed: gloo between CPUs, NCCL between GPUs."""

    def __init__(self) -> None:
        """Take number and size from the process group, which must stand."""
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def average_gradients(self, params: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the ranks: one message for all of them."""
        gradients = [parameter.grad for parameter in params if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the ranks, the same bits on each."""
        total = tensor.detach().clone()
        self._call(lambda: dist.all_reduce(total))
        return total / self.size

    def standardised(self, x: torch.Tensor) -> torch.Tensor:
        """Return values (B,) with mean 0 and standard deviation 1 over all ranks."""
        mean = self.mean(x.mean())
        squares = self.mean((x - mean).square().sum())
        std = torch.sqrt(squares * self.size / max(1, x.numel() * self.size - 1))
        return (x - mean) / (std + 1e-8)

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Return mean (P,), variance (P,) and number of the rows (B, P) of all ranks (Chan et al. 1983)."""
        own, var, count = super().moments(x)
        mean = self.mean(own)
        return mean, self.mean(var + (own - mean).square()), count * self.size

    def mean_stats(self, stats: dict[str, float]) -> dict[str, float]:
        """Return the mean of figures over the ranks that have them."""
        found: list[dict[str, float]] = [json.loads(data) for data in self._all_bytes(json.dumps(stats).encode())]
        values = {name: [own[name] for own in found if name in own] for name in {n: 0 for own in found for n in own}}
        return {name: sum(value) / len(value) for name, value in values.items()}

    def gather_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return all ranks' tensors on the first rank; none on the others."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        parts = self._bytes_to_first(save_tensors(plain))
        if parts is None:
            return {}
        others = {
            f"rank{rank}.{name}": tensor
            for rank, data in enumerate(parts)
            if rank
            for name, tensor in load_tensors(data).items()
        }
        return plain | others

    def own_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return this rank's part of what `gather_tensors` returned; empty where it was made by fewer ranks."""
        if self.first:
            return super().own_tensors(tensors)
        prefix = f"rank{self.rank}."
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    def from_first(self, data: bytes) -> bytes:
        """Return what the first rank hands in."""
        size = torch.tensor([len(data)])
        self._call(lambda: dist.broadcast(size, 0))
        sent = _as_tensor(data) if self.first else torch.empty(int(size), dtype=torch.uint8)
        if sent.numel():
            self._call(lambda: dist.broadcast(sent, 0))
        return sent.numpy().tobytes()

    @contextlib.contextmanager
    def local_copy(self, path: Path | None) -> Iterator[Path | None]:
        """Yield a path to the first rank's file, a copy of it on the others: they may be on another machine."""
        data = self.from_first(path.read_bytes() if self.first and path is not None else b"")
        if self.first or not data:
            yield path if self.first else None
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "first.safetensors"
            copy.write_bytes(data)
            yield copy

    def start_alike(self, net: torch.nn.Module) -> None:
        """Give every rank the first one's network."""
        for tensor in net.state_dict().values():
            self._call(lambda tensor=tensor: dist.broadcast(tensor, 0))

    def check_alike(self, net: torch.nn.Module, lr: float) -> None:
        """Compare networks and learning rates bit for bit.

        Raises:
            TrainingError: They differ.
        """
        digest = hashlib.sha256(json.dumps(lr).encode())
        for tensor in net.state_dict().values():
            digest.update(tensor.detach().cpu().numpy().tobytes())
        found = self._all_bytes(digest.digest())
        if len(set(found)) > 1:
            raise TrainingError(
                "the processes' networks differ from each other: their processors or packages do not compute alike; "
                "train on machines of one kind with the same versions"
            )

    def _all_bytes(self, data: bytes) -> list[bytes]:
        """Return what every rank hands in."""
        sizes, sent = self._padded(data)
        found = [torch.empty_like(sent) for _ in sizes]
        self._call(lambda: dist.all_gather(found, sent))
        return [tensor[:size].numpy().tobytes() for tensor, size in zip(found, sizes, strict=True)]

    def _bytes_to_first(self, data: bytes) -> list[bytes] | None:
        """Return what every rank hands in on the first one, None on the others."""
        sizes, sent = self._padded(data)
        found = [torch.empty_like(sent) for _ in sizes] if self.first else None
        self._call(lambda: dist.gather(sent, found, 0))
        return None if found is None else [t[:size].numpy().tobytes() for t, size in zip(found, sizes, strict=True)]

    def _padded(self, data: bytes) -> tuple[list[int], torch.Tensor]:
        """Return how long every rank's data are, and this one's at the length of the longest."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._call(lambda: dist.all_gather(lengths, torch.tensor([len(data)])))
        sizes = [int(length) for length in lengths]
        return sizes, _as_tensor(data + bytes(max(sizes) - len(data)))

    def _call(self, collective: Callable[[], _Result]) -> _Result:
        try:
            return collective()
        except RuntimeError as error:
            raise TrainingError(
                f"process {self.rank} of {self.size} lost the others ({' '.join(str(error).split())[:120]}): one of "
                "them ended, its own message says why; what was saved stands, the same command goes on from the last "
                "checkpoint"
            ) from None


@contextlib.contextmanager
def joined(gpu: bool = False) -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one, and leave them at the end; alone without torchrun.

    Args:
        gpu: Whether the network is on a GPU: the one with this process's number on its machine.

    Raises:
        InputError: There is no such GPU, or the other processes were not found.
    """
    if any(name not in os.environ for name in _WORDS) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    local = int(os.environ["LOCAL_RANK"])
    options: dict[str, Any] = {"backend": "gloo", "timeout": datetime.timedelta(seconds=TIMEOUT_S)}
    if gpu:
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes "
                "(torchrun --nproc-per-node) as there are"
            )
        torch.cuda.set_device(local)
        options |= {"backend": "cpu:gloo,cuda:nccl", "device_id": torch.device("cuda", local)}
    try:
        dist.init_process_group(**options)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"process {os.environ['RANK']} found not all {os.environ['WORLD_SIZE']} processes at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({' '.join(str(error).split())[:160]})"
        ) from None
    yield ProcessRanks()
    # Only after a good end: after an error the others may be gone, and the process ends anyway.
    dist.destroy_process_group()


def local_device(gpu: bool) -> torch.device:
    """Return where this process learns: the CPU, or the GPU with its number on its machine."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")


def _as_tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
