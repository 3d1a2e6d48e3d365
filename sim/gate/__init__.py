"""The sim-to-sim gate: what a policy file must pass before it may run on a robot."""
