"""Policies: networks, the optimizer and RL core, checkpoints, export to ONNX."""
