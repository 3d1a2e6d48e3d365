"""The report of a run of the whole chain: one self-contained HTML file."""
