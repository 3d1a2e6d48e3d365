"""bodydouble: from a recorded person in a room to a robot that repeats the scene."""

__version__ = "0.1.0"
