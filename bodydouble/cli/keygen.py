"""`bodydouble keygen`."""

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble keygen`."""
    from robot.signing import generate_key

    @dataclass(frozen=True)
    class Options:
        key: Path
        """File of the private key to write, e.g. lab.pem; the public key is written beside it, as lab.pub."""

    options = parse(
        Options, argv, prog="keygen", description="Make a pair of keys to sign policies with (Ed25519, PEM files)."
    )
    public = generate_key(options.key)
    print(f"{options.key}: private key, keep it to yourself\n{public}: public key, put it on the robots")
    return 0
