"""`bodydouble recover`: rescue a recording whose writer was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bodydouble.cli.options import parse


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble recover`."""

    damaged: Annotated[Path, tyro.conf.Positional]
    """The truncated or damaged recording (also an unfinished .tmp)."""
    out: Annotated[Path, tyro.conf.Positional]
    """Recording to write."""


def main(argv: list[str]) -> int:
    """Run `bodydouble recover`."""
    from bodydouble.recording import recover

    options = parse(Options, argv, prog="recover", description="Rebuild a recording up to its first damage.")
    found = recover(options.damaged, options.out)
    print(f"{options.out}: {found.messages} messages of {found.chunks} complete chunks")
    if found.damage:
        print(f"lost: {found.lost_bytes} bytes ({found.damage})")
    return 0
