"""A depth camera's noise: axial noise, quantisation, drop-out at edges and far away."""

from __future__ import annotations

import numpy as np


def axial_sigma(depth: np.ndarray) -> np.ndarray:
    """Return the standard deviation of depth readings, m (Nguyen, Izadi and Lovell 2012: axial noise of Kinect)."""
    return 0.0012 + 0.0019 * (depth - 0.4) ** 2


def add_depth_noise(
    depth: np.ndarray, rng: np.random.Generator, max_range: float = 5.0, edge: float = 0.06, edge_dropout: float = 0.6
) -> np.ndarray:
    """Return depth as a camera would measure it.

    Args:
        depth: True depth (H, W), m, float32; infinite where nothing is.
        rng: Random numbers.
        max_range: Farther readings are lost, m.
        edge: Depth step to a neighbour that makes an edge, m.
        edge_dropout: Probability that a reading at an edge is lost.

    Returns:
        Depth (H, W) in millimetres, uint16, 0 where there is no reading.
    """
    valid = np.isfinite(depth) & (depth < max_range) & (depth > 0.2)
    clean = np.where(valid, depth, 0.0).astype(np.float32)
    noisy = clean + rng.standard_normal(depth.shape, dtype=np.float32) * axial_sigma(clean)
    # Disparity of 1/8 pixel at 0.075 m baseline and 570 pixels focal length, as structured light has it.
    disparity_step = 1.0 / (8 * 0.075 * 570)
    inverse = np.round(1.0 / np.maximum(noisy, 0.1) / disparity_step) * disparity_step
    noisy = 1.0 / np.maximum(inverse, 1e-3)
    step = np.zeros(depth.shape, dtype=bool)
    jump_v, jump_h = np.abs(np.diff(clean, axis=0)) > edge, np.abs(np.diff(clean, axis=1)) > edge
    step[1:] |= jump_v
    step[:-1] |= jump_v
    step[:, 1:] |= jump_h
    step[:, :-1] |= jump_h
    lost = step & (rng.random(depth.shape, dtype=np.float32) < edge_dropout)
    millimetres = np.round(noisy * 1000.0)
    return np.where(valid & ~lost, millimetres, 0.0).astype(np.uint16)
