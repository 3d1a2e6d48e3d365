"""The motion-tracking task: follow a reference motion on a stage."""
