"""Arm tasks: reach a pose; pick a box and lift it."""
