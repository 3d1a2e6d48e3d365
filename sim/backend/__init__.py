"""Batched physics behind one protocol: MuJoCo on the CPU, MuJoCo Warp on an NVIDIA GPU."""
