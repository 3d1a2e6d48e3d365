"""Parsing of a command's typed options with tyro."""

from __future__ import annotations

from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse(kind: type[Options], argv: list[str], *, prog: str, description: str) -> Options:
    """Return the options of a frozen dataclass from command-line arguments; `--help` is made from its docstrings."""
    return tyro.cli(kind, args=argv, prog=f"bodydouble {prog}", description=description)
