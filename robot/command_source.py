"""What a run tells a policy that is told something: one command all the time, or those of a file, each at its time."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.errors import InputError

MAX_FILE_BYTES = 16 << 20
"""Largest file of commands."""


@dataclass(frozen=True, eq=False)
class CommandSource:
    """Commands over time. R rows, C values."""

    times_s: np.ndarray
    """Time from which on each row is in force (R,), s; the first is from the beginning, whatever it says."""
    values: np.ndarray
    """The commands (R, C), in the order of the contract's `command_names`."""

    @property
    def end_s(self) -> float:
        """Time of the last row, s."""
        return float(self.times_s[-1])

    def at(self, t_s: float) -> list[float]:
        """Return the command in force at a time, s."""
        row = int(np.searchsorted(self.times_s, t_s, side="right")) - 1
        return self.values[max(row, 0)].tolist()


def constant(values: tuple[float, ...], spec: CommandSpec) -> CommandSource:
    """Return one command for all the time.

    Raises:
        InputError: It does not have a value for each name, or one lies outside the bounds that the policy knows.
    """
    spec.check(values)
    return CommandSource(np.zeros(1), np.array([values], dtype=np.float64))


def read_commands(path: Path, spec: CommandSpec) -> CommandSource:
    """Read a CSV file: a heading `t_s` and the names of the command, then a row for each command.

    Raises:
        InputError: It cannot be read, its heading is another, its times do not grow, or a value is outside the bounds.
    """
    heading = ["t_s", *spec.names]
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
        rows = [row for row in csv.reader(path.read_text().splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as commands ({error}); give a CSV file") from None
    if not rows or [name.strip() for name in rows[0]] != heading:
        found = ",".join(rows[0])[:80] if rows else "nothing"
        raise InputError(f"{path}: begins with {found!r}, expected the heading {','.join(heading)}")
    table = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            values = [float(text) for text in row]
        except ValueError:
            values = []
        if len(values) != len(heading) or not all(map(math.isfinite, values)):
            raise InputError(f"{path}: row {number} is {','.join(row)[:80]!r}, expected {len(heading)} numbers")
        try:
            spec.check(values[1:])
        except InputError as error:
            raise InputError(f"{path}: row {number}: {error}") from None
        table.append(values)
    if not table:
        raise InputError(f"{path}: holds no command below its heading")
    times, values = np.array(table)[:, 0], np.array(table)[:, 1:]
    if (np.diff(times) <= 0).any():
        raise InputError(f"{path}: its times do not grow; sort the rows by t_s")
    return CommandSource(times, values)
