"""Settings of the articulated fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitConfig:
    """How the body is fitted."""

    vertices: int = 500
    """Body vertices that take part."""
    fine_vertices: int = 1500
    """Body vertices that take part in the last steps."""
    fine_steps: int = 3
    """The last of `coarse_iterations` and of `iterations`, with more of the body's skin."""
    points: int = 700
    """Points of a frame that take part, per camera."""
    track_hz: float = 6.0
    """Rate of the first pass' key frames, Hz."""
    track_iterations: int = 8
    """Steps per frame of the first pass."""
    lost: float = 1.3
    """Cost, in units of the key frame's beside, above which a key frame begins again from that one."""
    leap_m: float = 0.25
    """Distance of a joint from the middle of the key frames beside above which a key frame is odd, m."""
    coarse_hz: float = 10.0
    """Rate of the second pass' frames, which finds the shape, Hz."""
    coarse_iterations: int = 14
    """Steps of the second pass."""
    iterations: int = 6
    """Steps of the last pass, over all frames with the shape found."""
    free_steps: int = 3
    """The first of them, in which no foot is held where it stands."""
    damping: float = 0.02
    """What is added to the normal equations' diagonal: larger steps less far."""
    reach_m: float = 0.12
    """Distance at which a correspondence has lost most of its pull, at first, m."""
    final_reach_m: float = 0.04
    """The same at the end, m."""
    surface_to_points: float = 0.3
    """Weight of the way back, from the body to the points."""
    sole_m: float = 0.08
    """Height over the floor below which a foot is not told from the floor, m."""
    free_m: float = 0.06
    """Distance in front of the measured depth above which skin is where a camera saw nothing, m."""
    free_reach_m: float = 0.25
    """Distance to the points at which such skin is no longer pulled back, m."""
    free: float = 4.0
    """Weight of skin where a camera saw nothing."""
    posture: float = 0.002
    """Weight of the easy posture."""
    limits: float = 0.2
    """Weight of the joint limits."""
    smooth: float = 0.02
    """Weight of the joints' accelerations, in units of 10 m/s^2."""
    steady: float = 0.02
    """Weight of the local rotations' accelerations, in units of 100 rad/s^2."""
    floor: float = 100.0
    """Weight of soles inside the scene, 1/m^2."""
    inside: float = 20.0
    """Weight of other skin inside the scene, 1/m^2."""
    inside_reach_m: float = 0.05
    """Depth inside the scene at which the scene has lost most of its push, m."""
    afloat: float = 20.0
    """Weight of a body whose lower foot stands on nothing, 1/m^2."""
    planted: float = 1.0
    """Weight of moving planted feet, s^2/m^2."""
    pinned: float = 100.0
    """What `planted` is multiplied by in the last pass, where a foot is planted more likely than not."""
    level: float = 50.0
    """Weight of planted soles off the scene, 1/m^2."""
    flat: float = 40.0
    """Weight of a foot whose heel stands and whose ball is higher or lower than it, 1/m^2."""
    shape: float = 0.002
    """Weight of an average shape; one is five times the spread among people, as the Anny body's parameters count."""
    cell_m: float = 0.03
    """Cell of the scene's distances, m."""
