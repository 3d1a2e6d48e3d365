"""Synthetic recordings with ground truth: a room, an acting person, moving cameras, sensor noise."""
