"""Camera tracking: where a camera was, from its images alone."""
