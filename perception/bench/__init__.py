"""The benchmark of perception: clips, the reconstructions of each in several ways, measures, a table."""
