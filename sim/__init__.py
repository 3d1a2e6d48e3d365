"""Simulation: robots, stages, retargeting, environments and the sim-to-sim gate."""
