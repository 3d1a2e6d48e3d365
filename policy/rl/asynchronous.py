"""Asynchronous training: actor processes step the simulation while the learner learns from what they brought before.

An actor has `max_lag` rollouts in shared memory. It takes the newest published network, fills a rollout and hands it
over; the learner copies it out and gives it back at once, so that the actor collects while the learner learns. What is
learned from is therefore up to `max_lag` updates old; every step carries the log-probability under the network that
acted, and the log names how old it was (`lag` in updates, `staleness` in gradient steps).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.multiprocessing as mp

from bodydouble.errors import BodydoubleError, InputError, TrainingError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.rl.bootstrap import value_rollout
from policy.rl.collect import Collector, VectorTask
from policy.rl.phases import phase
from policy.rl.ppo import PPO
from policy.rl.rollout import Rollout
from policy.rl.runner import Runner

_POLL_S = 0.5
"""How often a waiting process looks whether the other side is alive, s."""


@dataclass(frozen=True)
class ActorConfig:
    """The processes that act."""

    actors: int = 1
    """Number of processes; an update learns from one rollout of each."""
    max_lag: int = 1
    """Updates that experience may be old; more smooth out rollouts of uneven length."""
    threads: int = 1
    """Threads of torch in each of them."""
    seed: int = 0
    """Seed of the first one's actions; the others count on."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One is not positive.
        """
        for name in ("actors", "max_lag", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"actor.{name} is {getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True)
class _Shape:
    """What the learner must know of an actor's task to make rollouts."""

    envs: int
    sizes: dict[str, int]


@dataclass(frozen=True)
class _Filled:
    """A rollout that is ready."""

    actor: int
    slot: int
    generation: int
    stats: dict[str, float]


@dataclass(frozen=True)
class _Failed:
    """An actor's last word."""

    actor: int
    kind: type[BodydoubleError]
    message: str


@dataclass
class _Published:
    """The newest network, in shared memory."""

    state: dict[str, torch.Tensor]
    counts: torch.Tensor
    """Gradient steps behind it and how many were published before it, int64 (2,)."""
    lock: Any

    def put(self, ppo: PPO, generation: int) -> None:
        with self.lock:
            for name, tensor in ppo.net.state_dict().items():
                self.state[name].copy_(tensor)
            self.counts[0], self.counts[1] = ppo.version, generation

    def get(self, net: ActorCritic) -> tuple[int, int]:
        with self.lock:
            net.load_state_dict(self.state)
            return int(self.counts[0]), int(self.counts[1])


class AsyncRunner(Runner):
    """Trains a network with actors in processes of their own. A context manager: leaving it ends them."""

    def __init__(
        self,
        make_task: Callable[[int], VectorTask],
        ppo: PPO,
        device: torch.device,
        config: ActorConfig | None = None,
    ) -> None:
        """Start the actors and wait for their tasks.

        Args:
            make_task: Makes the task of an actor from its index; a function that a new process can import.
            ppo: The learner.
            device: Where it learns; actors act on the CPU.
            config: The processes.

        Raises:
            BodydoubleError: A task could not be made, of the kind that its process raised.
            TrainingError: An actor died, or tasks differ in their observations.
        """
        self.ppo, self.device, self.config = ppo, device, config or ActorConfig()
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        self._generation = self._oldest = 0
        context = mp.get_context("spawn")
        state = {name: tensor.detach().cpu().clone().share_memory_() for name, tensor in ppo.net.state_dict().items()}
        self._published = _Published(state, torch.zeros(2, dtype=torch.int64).share_memory_(), context.Lock())
        self._ready: Any = context.Queue()
        self._orders = [context.Queue() for _ in range(self.config.actors)]
        self._processes = [
            context.Process(
                target=_act,
                args=(index, make_task, ppo.net.config, _sizes(ppo.net), self._published, self._orders[index]),
                kwargs={"ready": self._ready, "config": self.config, "steps": ppo.config.steps, "parent": os.getpid()},
                name=f"actor-{index}",
                daemon=True,
            )
            for index in range(self.config.actors)
        ]
        for process in self._processes:
            process.start()
        try:
            self._allocate()
        except BaseException:
            self.close()
            raise

    def _allocate(self) -> None:
        """Make the rollouts, those in shared memory and the learner's own, and let the actors begin."""
        shapes: dict[int, _Shape] = {}
        while len(shapes) < len(self._processes):
            actor, shape = self._next()
            shapes[actor] = shape
        if len({tuple(sorted(shape.sizes.items())) for shape in shapes.values()}) > 1:
            raise TrainingError(f"the actors' observations differ in size: {[s.sizes for s in shapes.values()]}")
        steps, net, cpu = self.ppo.config.steps, self.ppo.net, torch.device("cpu")

        def rollout(envs: int, device: torch.device) -> Rollout:
            return Rollout(
                steps, envs, shapes[0].sizes, net.log_std.shape[0], device, net.config.memory, net.config.critics
            )

        self._shared: list[list[Rollout]] = []
        for actor in range(len(self._processes)):
            slots = [rollout(shapes[actor].envs, cpu) for _ in range(self.config.max_lag)]
            for slot in slots:
                slot.share()
            self._shared.append(slots)
            self._orders[actor].put(slots)
        self._rollout = rollout(sum(shape.envs for shape in shapes.values()), self.device)
        ends = torch.tensor([shapes[actor].envs for actor in range(len(shapes))]).cumsum(0).tolist()
        self._columns = [slice(end - shapes[actor].envs, end) for actor, end in enumerate(ends)]
        self._published.put(self.ppo, self._generation)
        for orders in self._orders:
            for slot in range(self.config.max_lag):
                orders.put(slot)

    def collect(self) -> dict[str, float]:
        """Publish the present network and take one rollout from every actor.

        Raises:
            TrainingError: An actor died.
            BodydoubleError: An actor failed, of the kind that it raised.
        """
        self._generation += 1
        self._published.put(self.ppo, self._generation)
        waiting = set(range(len(self._processes)))
        held: list[_Filled] = []
        found: list[_Filled] = []
        while waiting:
            with phase("simulate"):
                filled = self._next()
            if filled.actor not in waiting:
                held.append(filled)
                continue
            if filled.generation >= self._oldest:
                self._rollout.take(self._shared[filled.actor][filled.slot], self._columns[filled.actor])
                waiting.discard(filled.actor)
                found.append(filled)
            self._orders[filled.actor].put(filled.slot)
        for filled in held:
            self._ready.put(filled)
        with phase("value"):
            value_rollout(self.ppo.net, self._rollout)
        weights = torch.tensor([float(c.stop - c.start) for c in (self._columns[f.actor] for f in found)])
        named = set.intersection(*(set(f.stats) for f in found))
        stats = {
            name: float((torch.tensor([f.stats[name] for f in found]) * weights).sum() / weights.sum())
            for name in sorted(named)
        }
        return {**stats, "lag": float(self._generation - min(f.generation for f in found))}

    def _snapshot(self) -> dict[str, torch.Tensor]:
        """Return the learner's random state; the actors' episodes are not kept."""
        return {"rng.cpu": torch.get_rng_state()}

    def _restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Take the learner's random state back; episodes begin anew, and what another network collected is dropped."""
        self._oldest = self._generation + 1
        torch.set_rng_state(tensors["rng.cpu"])
        return False

    def close(self) -> None:
        """End the actors."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
        for channel in (self._ready, *self._orders):
            channel.cancel_join_thread()
            channel.close()

    def __enter__(self) -> AsyncRunner:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the actors."""
        self.close()

    def _next(self) -> Any:
        """Return what an actor says next."""
        while True:
            try:
                said = self._ready.get(timeout=_POLL_S)
            except queue.Empty:
                self._check_alive()
                continue
            if isinstance(said, _Failed):
                raise said.kind(f"actor {said.actor}: {said.message}")
            return said

    def _check_alive(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exitcode is not None:
                code = process.exitcode
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                raise TrainingError(
                    f"actor {index} {how} after update {self.update}; what was saved stands, "
                    "the same command goes on from the last checkpoint"
                )


def _sizes(net: ActorCritic) -> tuple[int, int, int]:
    return net.actor.norm.mean.shape[0], net.critic_norm.mean.shape[0], net.log_std.shape[0]


def _act(
    index: int,
    make_task: Callable[[int], VectorTask],
    net_config: NetConfig,
    sizes: tuple[int, int, int],
    published: _Published,
    orders: Any,
    *,
    ready: Any,
    config: ActorConfig,
    steps: int,
    parent: int,
) -> None:
    """What an actor's process does, until it is ended or its learner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the learner's to answer
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed + index)
    try:
        net = ActorCritic(*sizes, net_config)
        task = make_task(index)
        collector = Collector(task, net, torch.device("cpu"))
        trial = collector.make_rollout(1)
        ready.put((index, _Shape(task.num_envs, {name: tensor.shape[-1] for name, tensor in trial.obs.items()})))
        del trial
        slots: list[Rollout] = _order(orders, parent)
        while True:
            slot = _order(orders, parent)
            version, generation = published.get(net)
            stats = collector.collect(net, slots[slot], version)
            ready.put(_Filled(index, slot, generation, stats))
    except BodydoubleError as error:
        ready.put(_Failed(index, type(error), str(error)))
        ready.close()
        ready.join_thread()


def _order(orders: Any, parent: int) -> Any:
    """Return the learner's next order; end with the learner."""
    while True:
        with contextlib.suppress(queue.Empty):
            return orders.get(timeout=_POLL_S)
        if os.getppid() != parent:
            raise SystemExit(0)
