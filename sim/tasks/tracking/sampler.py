"""Where episodes start: partly uniform over all clips, partly where the policy has been failing."""

from __future__ import annotations

from typing import Any

from sim.backend.protocol import SimBackend
from sim.tasks.tracking.config import ResetConfig
from sim.tasks.tracking.motion_bank import MotionBank

Array = Any


class StartSampler:
    """Draws the clip and frame of new episodes. Failures are counted per second of each clip."""

    def __init__(self, bank: MotionBank, backend: SimBackend, config: ResetConfig) -> None:
        """Start with equal weights."""
        self._bank, self._backend, self._config = bank, backend, config
        self.failures = backend.asarray([0.0] * bank.num_bins)
        """Weights of the failures (bins,) so far; part of a training's state."""
        self._length = backend.xp.astype(bank.bin_length, backend.xp.float32)

    def record(self, clip: Array, frame: Array, failed: Array) -> None:
        """Count failures (N,) at the frames (N,) of the clips (N,) where they happened."""
        xp, rate = self._backend.xp, self._config.adaptive_rate
        bins = self._bank.bin_of_frame[self._bank.index(clip, frame)]
        counts = self._backend.accumulate(bins, xp.astype(failed, xp.float32), self._bank.num_bins)
        self.failures = (1.0 - rate) * self.failures + counts

    def draw(self, count: int) -> tuple[Array, Array]:
        """Return clips and frames (count,) for new episodes."""
        xp, bank = self._backend.xp, self._bank
        uniform = self._length / xp.sum(self._length)
        # A failure is often caused by the second before it, so half of its weight goes there.
        blamed = self.failures
        earlier = xp.concat([blamed[1:], xp.zeros_like(blamed[:1])])
        same_clip = xp.concat([bank.clip_of_bin[1:] == bank.clip_of_bin[:-1], xp.zeros_like(bank.clip_of_bin[:1]) > 0])
        blamed = blamed + xp.where(same_clip, earlier, xp.zeros_like(earlier))
        total = xp.sum(blamed)
        share = self._config.adaptive_share
        adaptive = xp.where(total > 0, blamed / xp.clip(total, 1e-6, None), uniform)
        cumulative = xp.cumulative_sum((1.0 - share) * uniform + share * adaptive)
        drawn = xp.searchsorted(cumulative, self._backend.random(count) * cumulative[-1])
        drawn = xp.clip(drawn, 0, bank.num_bins - 1)
        clip = bank.clip_of_bin[drawn]
        inside = xp.astype(self._backend.random(count) * self._length[drawn], xp.int64)
        frame = bank.bin_start[drawn] + inside
        at_start = self._backend.random(count) < self._config.start_share
        return clip, xp.where(at_start, xp.zeros_like(frame), frame)
