"""Optimizers as frozen dataclasses that build them."""
