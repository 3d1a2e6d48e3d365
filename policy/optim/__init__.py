"""Optimizers: a registry of configurations, Muon and its relatives, schedules, and their state as tensors."""
