"""The network: a canonical depth image to joints with uncertainties.

An hourglass gives, for each joint, a heat map, a depth map and a scale map at half the image's resolution. The joint
is the heat's mean place and the depth there, so places are found finer than a pixel (Sun et al. 2018, Integral human
pose regression, eq. 1); the scale is a Laplace distribution's, learned by its likelihood.
"""

from __future__ import annotations

import torch
from torch import nn

from perception.body.anny_body import JOINT_NAMES
from perception.joints.canonical import PIXEL_M, SIZE

NETWORK_JOINTS = (
    "pelvis", "spine2", "neck", "head", "head_top", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hand", "right_hand", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle", "left_ball", "right_ball",
)  # fmt: skip
"""Joints that the network finds, in its output's order."""
JOINT_INDEX = tuple(JOINT_NAMES.index(name) for name in NETWORK_JOINTS)
"""Their places in the body's JOINT_NAMES."""
WIDTHS = (24, 48, 96, 128, 160)
"""Channels at full, half, quarter, eighth and sixteenth resolution."""


class _Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class JointNetwork(nn.Module):
    """Canonical images (B, 2, SIZE, SIZE) to joints (B, J, 3), m, and Laplace scales (B, J), m.

    Joints are right, up and away from the image's centre, in NETWORK_JOINTS' order.
    """

    def __init__(self) -> None:
        """Make a network with random weights."""
        super().__init__()
        full, *rest = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(2, full, 5, padding=2, bias=False), nn.BatchNorm2d(full), nn.ReLU())
        self.down = nn.ModuleList(
            nn.Sequential(_down(inputs, outputs), _Block(outputs))
            for inputs, outputs in zip(WIDTHS[:-1], rest, strict=True)
        )
        self.bottom = _Block(WIDTHS[-1])
        # Back up to half resolution.
        self.narrow = nn.ModuleList(
            nn.Conv2d(below, above, 1) for below, above in zip(WIDTHS[:1:-1], WIDTHS[-2:0:-1], strict=True)
        )
        self.up = nn.ModuleList(_Block(width) for width in WIDTHS[-2:0:-1])
        self.head = nn.Conv2d(WIDTHS[1], 3 * len(NETWORK_JOINTS), 1)
        place = (torch.arange(SIZE // 2) + 0.5) * 2 * PIXEL_M - 0.5 * SIZE * PIXEL_M
        self.place: torch.Tensor
        self.register_buffer("place", place, persistent=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return joints (B, J, 3), m, and scales (B, J), m."""
        x = self.stem(images)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        x = self.bottom(x)
        for narrow, up, beside in zip(self.narrow, self.up, levels[-2::-1], strict=True):
            x = up(nn.functional.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + beside)
        heat, depth, scale = self.head(x).float().flatten(2).chunk(3, dim=1)
        heat = torch.softmax(heat, dim=-1)
        side = SIZE // 2
        grid = heat.unflatten(-1, (side, side))
        right = grid.sum(dim=2) @ self.place
        up = -(grid.sum(dim=3) @ self.place)
        away = (heat * depth).sum(-1)
        # From 3 mm to about a metre.
        scales = 0.003 + torch.nn.functional.softplus((heat * scale).sum(-1) - 3.0)
        return torch.stack([right, up, away], dim=-1), scales


def laplace_loss(joints: torch.Tensor, scales: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return each joint's negative log likelihood (B, J) under a Laplace distribution of its distance."""
    return (joints - truth).norm(dim=-1) / scales + 3.0 * torch.log(scales)
