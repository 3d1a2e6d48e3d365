"""Retargeting: motions of people and of other sources as motions of a robot."""
