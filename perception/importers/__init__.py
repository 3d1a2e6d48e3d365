"""Importers: folders that others recorded become Recordings."""
