"""The parametric human body."""
