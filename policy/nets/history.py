"""HistoryActor: a policy that reads the last H observations through an encoder, beside the present one."""

from __future__ import annotations

import math
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
        """Return the present frame (B, F) of all terms and the frames (B, H, K) of those with a past, oldest first."""
        present, past, start = [], [], 0
        for size, history in self._layout:
            frames = obs[:, start : start + size * history].unflatten(1, (history, size))
            present.append(frames[:, -1])
            if history > 1:
                past.append(frames)
            start += size * history
        return torch.cat(present, dim=1), torch.cat(past, dim=2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P)."""
        return self.normal(self.norm(obs))

    def normal(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P) that are already normalised."""
        present, past = self.split(obs)
        return self.net(torch.cat([present, self.encoder(past)], dim=1))


def _mlp_encoder(size: int, history: int, encoded: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), mlp((size * history, 2 * encoded, encoded), last_gain=1.0), nn.ELU())


class TemporalConvolution(nn.Module):
    """Each frame with the ones before and after it, through one layer: weights alike at every time.

    It is written with a linear layer, which the robot's loader knows; beyond either end the frame there is repeated.
    """

    def __init__(self, size: int, channels: int) -> None:
        """Take frames of `size` values to `channels` of them."""
        super().__init__()
        self.layer = mlp((3 * size, channels), last_gain=math.sqrt(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, H, channels) of frames (B, H, size)."""
        before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        after = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
        return nn.functional.elu(self.layer(torch.cat([before, x, after], dim=2)))


class _LastAndMean(nn.Module):
    """What is now, and what has been on average."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 2 K) of frames (B, H, K)."""
        return torch.cat([x[:, -1], x.mean(dim=1)], dim=1)


def _conv_encoder(size: int, encoded: int) -> nn.Sequential:
    """Return two convolutions, so that each end sees five frames, and a layer to E values."""
    return nn.Sequential(
        TemporalConvolution(size, _CHANNELS), TemporalConvolution(_CHANNELS, _CHANNELS), _LastAndMean(),
        mlp((2 * _CHANNELS, encoded), last_gain=1.0), nn.ELU(),
    )  # fmt: skip
