"""The parametric body that motions are made with and fitted to."""
