"""Velocity-commanded walking: a legged robot walks and turns as it is told."""
