"""Perception: a recording becomes a scene mesh and a body motion, in metres."""
