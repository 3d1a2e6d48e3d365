"""Many scenes: one network learns from workers that each step a task of their own, on one or many machines, by Ray.

In every update each worker takes the newest network and fills a rollout; the learner learns from all of them together.
Who is slow is waited for, so that the curve does not depend on the machines' speed: it is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bodydouble.errors import TrainingError
from policy.cluster import ClusterConfig, cause_of
from policy.nets.registry import build_net
from policy.rl.bootstrap import value_rollout
from policy.rl.collect import Collector, VectorTask
from policy.rl.phases import phase
from policy.rl.ppo import PPO
from policy.rl.rollout import Rollout
from policy.rl.runner import Runner


class SceneRunner(Runner):
    """Trains a network in the tasks of Ray's workers. Ray must run; see policy.cluster."""

    def __init__(
        self,
        ray: Any,
        make_task: Callable[[int], VectorTask],
        names: Sequence[str],
        ppo: PPO,
        device: torch.device,
        config: ClusterConfig,
        seed: int,
    ) -> None:
        """Start the workers and wait for their tasks.

        Args:
            ray: Ray's module.
            make_task: Makes the task of a worker from its index.
            names: What each worker has, for messages; there are as many workers.
            ppo: The learner.
            device: Where it learns; workers act on the CPU.
            config: Cores and GPUs of a worker.
            seed: Seed of the first worker's actions; the others count on.

        Raises:
            BodydoubleError: A task could not be made, of the kind that its worker raised.
            TrainingError: A worker died, or tasks differ in their observations.
        """
        self.ppo, self.device = ppo, device
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        self._ray, self._names = ray, list(names)
        # A worker that died is not replaced in silence: its episodes are lost.
        start = ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_restarts=0)(_Worker)
        network = (ppo.net.config, _sizes(ppo), ppo.net.layout)
        self._workers = [
            start.remote(index, make_task, network, ppo.config.steps, seed + index, config.cpus)
            for index in range(len(names))
        ]
        shapes: list[tuple[int, dict[str, int]]] = self._ask("begin")
        if len({tuple(sorted(sizes.items())) for _, sizes in shapes}) > 1:
            raise TrainingError(f"the scenes' observations differ in size: {[sizes for _, sizes in shapes]}")
        envs = [count for count, _ in shapes]
        net = ppo.net.config
        self._rollout = Rollout(
            ppo.config.steps, sum(envs), shapes[0][1], _sizes(ppo)[2], device, net.memory, net.critics
        )
        ends = torch.tensor(envs).cumsum(0).tolist()
        self._columns = [slice(end - count, end) for end, count in zip(ends, envs, strict=True)]

    def collect(self) -> dict[str, float]:
        """Hand out the present network, take a rollout from every worker, and return their mean figures.

        Raises:
            TrainingError: A worker died.
            BodydoubleError: A worker failed, of the kind that it raised.
        """
        state = {name: tensor.detach().cpu().numpy() for name, tensor in self.ppo.net.state_dict().items()}
        with phase("simulate"):
            brought = self._ask("collect", self._ray.put(state), self.ppo.version)
        own = self._rollout.named()
        for columns, (arrays, _) in zip(self._columns, brought, strict=True):
            for name, array in arrays.items():
                # A copy: what Ray hands out is read-only.
                own[name][:, columns].copy_(torch.from_numpy(array.copy()))
        with phase("value"):
            value_rollout(self.ppo.net, self._rollout)
        found = [stats for _, stats in brought]
        weights = [columns.stop - columns.start for columns in self._columns]
        named = set.intersection(*(set(stats) for stats in found))
        return {
            name: sum(weight * stats[name] for weight, stats in zip(weights, found, strict=True)) / sum(weights)
            for name in sorted(named)
        }

    def _snapshot(self) -> dict[str, torch.Tensor]:
        tensors = {"rng.cpu": torch.get_rng_state()}
        for index, state in enumerate(self._ask("snapshot")):
            tensors |= {f"worker{index}.{name}": torch.from_numpy(array.copy()) for name, array in state.items()}
        return tensors

    def _restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        torch.set_rng_state(tensors["rng.cpu"])
        parts: list[dict[str, Any]] = [{} for _ in self._workers]
        for index, part in enumerate(parts):
            prefix = f"worker{index}."
            part |= {name.removeprefix(prefix): t.numpy() for name, t in tensors.items() if name.startswith(prefix)}
        return all(self._gather([w.restore.remote(p) for w, p in zip(self._workers, parts, strict=True)]))

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            self._ray.kill(worker)

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        return self._gather([getattr(worker, method).remote(*arguments) for worker in self._workers])

    def _gather(self, references: list[Any]) -> list[Any]:
        found = []
        for name, reference in zip(self._names, references, strict=True):
            try:
                found.append(self._ray.get(reference))
            except Exception as error:
                after = f"after update {self.update}; what was saved stands"
                cause = cause_of(error, f"the worker of {name}")
                raise type(cause)(f"{cause}; {after}, the same command goes on from the last checkpoint") from None
        return found


class _Worker:
    """A task in a process of its own, and the policy that acts in it."""

    def __init__(
        self,
        index: int,
        make_task: Callable[[int], VectorTask],
        network: tuple[Any, tuple[int, int, int], Any],
        steps: int,
        seed: int,
        threads: int,
    ) -> None:
        self._index, self._make_task, self._network, self._steps = index, make_task, network, steps
        torch.set_num_threads(threads)
        torch.manual_seed(seed)

    def begin(self) -> tuple[int, dict[str, int]]:
        """Make the task; return the number of environments and the sizes of their observations.

        Not in the constructor: of what that raises, Ray keeps only the text.
        """
        config, sizes, layout = self._network
        self._net = build_net(config, *sizes, layout=layout)
        task = self._make_task(self._index)
        self._collector = Collector(task, self._net, torch.device("cpu"))  # type: ignore[arg-type]
        self._rollout = self._collector.make_rollout(self._steps)
        return self._rollout.envs, {name: tensor.shape[-1] for name, tensor in self._rollout.obs.items()}

    def collect(self, state: dict[str, Any], version: int) -> tuple[dict[str, Any], dict[str, float]]:
        """Fill a rollout by a network and return its tensors as arrays, and figures."""
        self._net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
        stats = self._collector.collect(self._net, self._rollout, version)  # type: ignore[arg-type]
        tensors = self._rollout.named()
        # The learner values the states itself.
        wanted = [name for name in tensors if name not in ("value", "next_value", "group")]
        return {name: tensors[name].numpy() for name in wanted}, stats

    def snapshot(self) -> dict[str, Any]:
        """Return all that its next rollout depends on beside the network."""
        tensors = self._collector.snapshot() | {"rng.cpu": torch.get_rng_state()}
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from what `snapshot` returned; return whether the task goes on too."""
        if not state:
            return False
        tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
        torch.set_rng_state(tensors["rng.cpu"])
        return self._collector.restore(tensors)


def _sizes(ppo: PPO) -> tuple[int, int, int]:
    net = ppo.net
    return net.actor.norm.mean.shape[0], net.critic_norm.mean.shape[0], net.log_std.shape[0]
