"""Joints of a person from one camera's depth: a small network, its synthetic training data and its training."""
