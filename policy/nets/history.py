"""HistoryActor: a policy that reads the last H observations through an encoder, beside the present one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from bodydouble.errors import InputError
from policy.nets.mlp import mlp
from policy.nets.normalizer import RunningNorm
from policy.nets.policy_net import Layout, PolicyActor

Encoder = Literal["none", "mlp", "conv"]
"""How the history is encoded: not at all (the network reads all frames alike), by a perceptron, or by a temporal
convolution, whose weights are the same at every time."""

_CHANNELS = 32
"""Channels of the convolutions."""


class HistoryActor(PolicyActor):
    """Normalised observation to mean action: the past is first encoded to a few values.

    The network sees the terms without history, the present frame of those with one, and the encoded past. The encoder
    is learned with the rest, so what it keeps of the past is what the actions need of it.
    """

    def __init__(
        self,
        layout: Layout,
        action_size: int,
        layers: tuple[int, ...],
        encoder: Literal["mlp", "conv"],
        encoded: int,
    ) -> None:
        """Build normaliser, encoder and network.

        Args:
            layout: Size and history of each term; all histories longer than 1 have the same length H.
            action_size: Number of actions J.
            layers: Hidden layers after the encoder.
            encoder: Its kind.
            encoded: Values E that it gives.

        Raises:
            InputError: No term has a history, or their lengths differ.
        """
        super().__init__()
        lengths = {history for _, history in layout if history > 1}
        if len(lengths) != 1:
            raise InputError(
                f"net.encoder {encoder} needs observation terms of one history length above 1, the observation's "
                f"lengths are {sorted({history for _, history in layout})}; set the task's history"
            )
        self._history = lengths.pop()
        self._layout = layout
        past = sum(size for size, history in layout if history > 1)
        self.norm = RunningNorm(sum(size * history for size, history in layout))
        self.encoder = _mlp_encoder(past, self._history, encoded) if encoder == "mlp" else _conv_encoder(past, encoded)
        present = sum(size for size, _ in layout)
        self.net = mlp((present + encoded, *layers, action_size), last_gain=0.01)

    def split(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the present frame (B, F) of all terms and the past (B, K, H) of those with one, oldest first."""
        present, past, start = [], [], 0
        for size, history in self._layout:
            frames = obs[:, start : start + size * history].unflatten(1, (history, size))
            present.append(frames[:, -1])
            if history > 1:
                past.append(frames)
            start += size * history
        return torch.cat(present, dim=1), torch.cat(past, dim=2).transpose(1, 2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P)."""
        return self.normal(self.norm(obs))

    def normal(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P) that are already normalised."""
        present, past = self.split(obs)
        return self.net(torch.cat([present, self.encoder(past)], dim=1))


def _mlp_encoder(size: int, history: int, encoded: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), mlp((size * history, 2 * encoded, encoded), last_gain=1.0), nn.ELU())


class _LastSteps(nn.Module):
    """The last values of each channel (B, K, 1), and their mean over time: what is now and what has been."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 2 K) of (B, K, H)."""
        return torch.cat([x[:, :, -1], x.mean(dim=2)], dim=1)


def _conv_encoder(size: int, encoded: int) -> nn.Sequential:
    """Return two convolutions of three frames each, padded to the history's length, and a layer to E values."""
    return nn.Sequential(
        nn.Conv1d(size, _CHANNELS, 3, padding=1), nn.ELU(), nn.Conv1d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ELU(),
        _LastSteps(), mlp((2 * _CHANNELS, encoded), last_gain=1.0), nn.ELU(),
    )  # fmt: skip
