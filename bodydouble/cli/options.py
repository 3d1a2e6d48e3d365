"""Parsing of a command's typed options with tyro, and choosing a sub-command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse(kind: type[Options], argv: list[str], *, prog: str, description: str) -> Options:
    """Return the options of a frozen dataclass from command-line arguments; `--help` is made from its docstrings."""
    return tyro.cli(kind, args=argv, prog=f"bodydouble {prog}", description=description)


def task_name(argv: list[str]) -> str | None:
    """Return the task that `--task` names, or None where the arguments name none: its options depend on it."""
    for index, argument in enumerate(argv):
        if argument == "--task":
            return argv[index + 1] if index + 1 < len(argv) else ""
        if argument.startswith("--task="):
            return argument.removeprefix("--task=")
    return None


def choose(verb: str, actions: Mapping[str, Callable[[list[str]], int]], argv: list[str]) -> int:
    """Run the action that the first argument names.

    Args:
        verb: The command, for messages.
        actions: Name: function of the remaining arguments that returns an exit status.
        argv: Arguments after the verb.
    """
    usage = f"usage: bodydouble {verb} {'|'.join(actions)} [options]"
    if argv and argv[0] in actions:
        return actions[argv[0]](argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    print(f"error: {verb} needs one of: {', '.join(actions)}\n{usage}", file=sys.stderr)
    return 2
