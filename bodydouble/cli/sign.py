"""`bodydouble sign`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble sign`."""
    from robot.signing import sign

    @dataclass(frozen=True)
    class Options:
        policy: Annotated[Path, tyro.conf.Positional]
        """The policy (.onnx)."""
        key: Path
        """File of the private key."""
        out: Path | None = None
        """File to write; the policy itself otherwise."""

    options = parse(Options, argv, prog="sign", description="Sign a policy, so that robots know who made it.")
    out = options.out or options.policy
    print(f"{out}: signed with key {sign(options.policy, options.key, out).fingerprint}")
    return 0
