"""Tasks: small functions for rewards, terminations and events, over the array API."""
