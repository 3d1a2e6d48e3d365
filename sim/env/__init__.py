"""Environments: the batched tracking environment, and its Gymnasium faces."""
