"""ReplayBuffer: the last S steps of N environments, preallocated; minibatches of n-step returns are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bodydouble.errors import InputError


@dataclass(frozen=True)
class Batch:
    """B transitions of up to n steps. P policy and C critic values, J actions."""

    policy: torch.Tensor
    """Policy observations acted on (B, P)."""
    critic: torch.Tensor
    """Critic observations at that time (B, C)."""
    action: torch.Tensor
    """Actions (B, J)."""
    reward: torch.Tensor
    """Discounted sums of the rewards on the way (B,)."""
    discount: torch.Tensor
    """Discount of what comes after (B,): gamma to the number of steps, 0 where the episode failed."""
    next_policy: torch.Tensor
    """Policy observations that the last step led to (B, P), before any new episode."""
    next_critic: torch.Tensor
    """Critic observations there (B, C)."""


class ReplayBuffer:
    """A ring of S steps of N environments on the learner's device."""

    def __init__(self, steps: int, envs: int, sizes: dict[str, int], action_size: int, device: torch.device) -> None:
        """Allocate.

        Args:
            steps: Steps S of each environment that are kept.
            envs: Environments N.
            sizes: Size of each observation group: "policy" and "critic".
            action_size: Number of actions J.
            device: Where to keep everything.
        """

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(steps, envs, *shape, dtype=dtype, device=device)

        self._tensors = {
            **{name: zeros(size) for name, size in sizes.items()},
            **{f"next_{name}": zeros(size) for name, size in sizes.items()},
            "action": zeros(action_size),
            "reward": zeros(),
            "terminated": zeros(dtype=torch.bool),
            "truncated": zeros(dtype=torch.bool),
        }
        self.steps, self.envs = steps, envs
        self.filled, self._next = 0, 0

    @staticmethod
    def num_bytes(steps: int, envs: int, sizes: dict[str, int], action_size: int) -> int:
        """Return the size in bytes of a buffer of these sizes."""
        return steps * envs * (4 * (2 * sum(sizes.values()) + action_size + 1) + 2)

    def add(self, step: dict[str, torch.Tensor]) -> None:
        """Keep one step of all environments; the oldest one makes room.

        Args:
            step: "policy", "critic", "action", "reward", "terminated", "truncated", and "next_policy", "next_critic",
                the observations that the step led to before any new episode; each (N, ...).
        """
        for name, tensor in self._tensors.items():
            tensor[self._next] = step[name]
        self._next = (self._next + 1) % self.steps
        self.filled = min(self.filled + 1, self.steps)

    def sample(self, size: int, gamma: float, n_step: int = 1) -> Batch:
        """Draw transitions, each as likely as any other, with repetition.

        The rewards of up to `n_step` steps are summed. A sum ends with its episode: after a failure nothing follows;
        after a time limit what follows is the value of the observation that the last step led to.

        Args:
            size: Transitions B.
            gamma: Discount.
            n_step: Steps of a return.

        Raises:
            InputError: Fewer steps are kept than a return has.
        """
        starts = self.filled - n_step + 1
        if starts < 1:
            raise InputError(f"the replay buffer holds {self.filled} steps, a return of {n_step} needs as many")
        device = self._tensors["reward"].device
        first = torch.randint(starts, (size,), device=device)
        env = torch.randint(self.envs, (size,), device=device)
        oldest = self._next - self.filled
        reward = torch.zeros(size, device=device)
        running = torch.ones(size, dtype=torch.bool, device=device)
        last = torch.zeros(size, dtype=torch.int64, device=device)
        factor = torch.ones(size, device=device)
        for ahead in range(n_step):
            row = (oldest + first + ahead) % self.steps
            reward = reward + torch.where(running, factor * self._tensors["reward"][row, env], 0.0)
            factor = torch.where(running, factor * gamma, factor)
            last = torch.where(running, row, last)
            running = running & ~(self._tensors["terminated"][row, env] | self._tensors["truncated"][row, env])
        row = (oldest + first) % self.steps
        take = self._tensors
        return Batch(
            policy=take["policy"][row, env],
            critic=take["critic"][row, env],
            action=take["action"][row, env],
            reward=reward,
            discount=factor * ~take["terminated"][last, env],
            next_policy=take["next_policy"][last, env],
            next_critic=take["next_critic"][last, env],
        )

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return what is kept, as tensors by name."""
        kept = {name: tensor[: self.filled].clone() for name, tensor in self._tensors.items()}
        return kept | {"next": torch.tensor(self._next)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `snapshot` returned.

        Raises:
            InputError: It is of a buffer of other sizes.
        """
        for name, own in self._tensors.items():
            saved = tensors.get(name)
            if saved is None or saved.shape[1:] != own.shape[1:] or len(saved) > len(own):
                found = None if saved is None else tuple(saved.shape)
                raise InputError(
                    f"the saved replay buffer's {name} has shape {found}, this one's {tuple(own.shape)}; "
                    "resume with the same settings"
                )
            own[: len(saved)] = saved.to(own.device)
            self.filled = len(saved)
        self._next = int(tensors["next"])
