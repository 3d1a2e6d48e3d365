"""Several cameras into one world and onto one clock."""
