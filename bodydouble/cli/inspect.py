"""`bodydouble inspect`: a policy's contract for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bodydouble.cli.options import parse
from bodydouble.contract import PolicyContract

if TYPE_CHECKING:
    from robot.policy_file import PolicyFile

_JOINT_COLUMNS = (
    ("default\nrad", "default_joint_pos"),
    ("lower\nrad", "joint_lower"),
    ("upper\nrad", "joint_upper"),
    ("speed\nrad/s", "joint_velocity_limit"),
    ("effort\nN m", "effort_limit"),
    ("kp\nN m/rad", "kp"),
    ("kd\nN m s/rad", "kd"),
    ("action\nrad", "action_scale"),
)
_BASES = {"residual_reference": "reference", "residual_default": "default"}


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble inspect`."""

    policy: Annotated[Path, tyro.conf.Positional]
    """The policy (.onnx)."""
    json: bool = False
    """Print JSON: the contract at full precision, and the file's size, hash and signer."""
    trusted: Path | None = None
    """Folder of the public keys (.pub) of known signers; any other policy is refused."""


def main(argv: list[str]) -> int:
    """Run `bodydouble inspect`."""
    options = parse(
        Options, argv, prog="inspect", description="Check a policy file and print its contract: what it needs and does."
    )
    from robot.policy_file import PolicyFile

    policy = PolicyFile(options.policy, options.trusted)
    if options.json:
        print(json.dumps(as_plain(policy), indent=1, sort_keys=True))
    else:
        show(policy, Console())
    return 0


def as_plain(policy: PolicyFile) -> dict[str, Any]:
    """Return what is known of a policy file as JSON types; numbers keep every digit."""
    return {
        "file": {
            "name": policy.path.name,
            "bytes": policy.size_bytes,
            "sha256": policy.sha256,
            "signer": policy.signer,
            "golden_max_abs_diff": policy.golden_max_abs_diff,
        },
        "contract": json.loads(policy.contract.to_json()),
    }


def show(policy: PolicyFile, console: Console) -> None:
    """Print a policy's contract as tables."""
    contract = policy.contract
    console.print(_facts(policy))
    joints = [
        [name, *(f"{getattr(contract, field)[index]:.4g}" for _, field in _JOINT_COLUMNS)]
        for index, name in enumerate(contract.joint_names)
    ]
    console.print(_table("Joints", ("joint", *(title for title, _ in _JOINT_COLUMNS)), joints))
    terms, start = [], 0
    for term in contract.observation:
        size = term.size * term.history
        place = f"{start}..{start + size - 1}"
        terms.append(
            [term.name, place, str(term.size), str(term.history), f"{term.scale:g}", f"{term.clip:g}", term.frame]
        )
        start += size
    console.print(_table("Observation", ("term", "values", "size", "history", "scale", "clip", "frame"), terms))
    if contract.command_names:
        bounds = zip(contract.command_names, contract.command_low, contract.command_high, strict=True)
        rows = [[name, f"{low:g}", f"{high:g}"] for name, low, high in bounds]
        console.print(_table("Commands it must be given", ("value", "from", "to"), rows))
    if contract.randomisation.terms:
        rows = [_randomised(raw) for raw in contract.randomisation.plain()]
        console.print(_table("Trained to bear", ("what", "of", "how", "distribution", "drawn"), rows))
    rows = [[name, value] for name, value in sorted(contract.hashes.items())]
    rows += [[name, value] for name, value in sorted(contract.versions.items())]
    console.print(_table("Made from", ("what", "SHA-256 or version"), rows))


def _facts(policy: PolicyFile) -> Table:
    contract = policy.contract
    memory = f", memory of {contract.memory_size} values" if contract.memory_size else ""
    signer = f"signed by {policy.signer}" if policy.signer else "unsigned"
    rows = [
        ["file", f"{policy.path}, {policy.size_bytes / 1e6:.2f} MB, {signer}"],
        ["SHA-256", policy.sha256],
        ["robot", f"{contract.robot}, {len(contract.joint_names)} joints"],
        ["rates", f"{contract.control_hz:g} Hz; trained with physics steps of {1000 * contract.physics_dt:g} ms"],
        ["network", f"{contract.spec.size} observation values -> {len(contract.joint_names)} actions{memory}"],
        ["target", f"clip({_BASES[contract.action_mode]} + scale * action)"],
        ["reference", _reference(contract)],
        ["quaternions", contract.quaternion_order],
        ["golden vectors", f"{len(contract.golden_inputs)}, reproduced within {policy.golden_max_abs_diff:.2g}"],
        ["schema", f"version {contract.schema_version}"],
    ]
    return _table("Policy", ("", ""), rows, header=False)


def _reference(contract: PolicyContract) -> str:
    if not contract.follows_reference:
        return "none"
    return f"observed {', '.join(map(str, contract.reference_offsets))} control steps ahead"


def _randomised(raw: dict[str, Any]) -> list[str]:
    every = f", every {_distribution(raw['interval_s'])} s" if raw["interval_s"] else ""
    each = "each its own" if raw["each"] else "all the same"
    return [
        raw["quantity"],
        raw["of"],
        raw["how"],
        _distribution(raw["distribution"]),
        f"{raw['drawn']}{every}, {each}",
    ]


def _distribution(raw: dict[str, Any]) -> str:
    return f"{raw['kind']} {', '.join(f'{value:g}' for name, value in raw.items() if name != 'kind')}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=header)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", style="bold" if index == 0 else None)
    for row in rows:
        # Names come from a file: they are text, not markup.
        table.add_row(*(escape(text) for text in row))
    return table
