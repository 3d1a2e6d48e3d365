"""PolicyContract: everything a policy file must say so that a robot can run it, or refuse to."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bodydouble.command import CommandSpec
from bodydouble.errors import ContractError, InputError
from bodydouble.observation import ObservationSpec, ObservationTerm
from bodydouble.randomisation import Randomisation

SCHEMA_VERSION = 1
"""Version of the contract's JSON form."""
METADATA_KEY = "bodydouble.contract"
"""Key of the contract's JSON in an ONNX file's metadata."""
MAX_CONTRACT_BYTES = 8 << 20
"""Longest contract text that is parsed."""
MAX_JOINTS = 1024
"""Most joints."""
MAX_VALUES = 1 << 20
"""Largest observation, and largest memory."""
MAX_NAME = 200
"""Longest name."""
ACTION_MODES = ("residual_reference", "residual_default")
"""Meanings an action can have: target = clip(base + scale * action), where base is the reference's joint positions at
the first offset, or the default pose."""
_JOINT_FIELDS = (
    "default_joint_pos",
    "kp",
    "kd",
    "effort_limit",
    "joint_lower",
    "joint_upper",
    "joint_velocity_limit",
    "action_scale",
)


@dataclass(frozen=True)
class PolicyContract:
    """What a policy expects and promises. Per-joint tuples follow `joint_names`."""

    robot: str
    """Name of the robot."""
    joint_names: tuple[str, ...]
    """Actuated joints, in the order of every per-joint field, of the observation and of the action."""
    default_joint_pos: tuple[float, ...]
    """Default pose, rad."""
    kp: tuple[float, ...]
    """Position gains, N m/rad."""
    kd: tuple[float, ...]
    """Velocity gains, N m s/rad."""
    effort_limit: tuple[float, ...]
    """Torque limits, N m."""
    joint_lower: tuple[float, ...]
    """Lower position limits, rad."""
    joint_upper: tuple[float, ...]
    """Upper position limits, rad."""
    joint_velocity_limit: tuple[float, ...]
    """Velocity limits, rad/s."""
    action_mode: str
    """Meaning of the action, one of ACTION_MODES."""
    action_scale: tuple[float, ...]
    """Scale of the action, rad."""
    observation: tuple[ObservationTerm, ...]
    """Terms of the observation, in order."""
    reference_offsets: tuple[int, ...]
    """Reference frames observed, in control steps ahead; empty where the policy follows no reference."""
    control_hz: float
    """Rate of the policy, Hz."""
    physics_dt: float
    """Physics step of the simulation it was trained in, s."""
    quaternion_order: str
    """Always wxyz."""
    versions: dict[str, str]
    """Versions of the packages that made the policy."""
    hashes: dict[str, str]
    """SHA-256 of stage, reference, checkpoint and weights."""
    golden_inputs: tuple[tuple[float, ...], ...]
    """Observations (G, size) whose actions were stored."""
    golden_outputs: tuple[tuple[float, ...], ...]
    """Actions (G, J) that the policy must reproduce."""
    golden_memory: tuple[tuple[float, ...], ...] = ()
    """Memory (G, M) after each golden input; with a memory these follow each other, from an empty (zero) one on."""
    memory_size: int = 0
    """Values M of the memory that a step hands to the next (ONNX memory, next_memory); 0 for none."""
    command_names: tuple[str, ...] = ()
    """Values that the robot must be told, in the order of the observation term `command`."""
    command_low: tuple[float, ...] = ()
    """Smallest value of each that the policy was trained for."""
    command_high: tuple[float, ...] = ()
    """Largest value of each."""
    randomisation: Randomisation = dataclasses.field(default_factory=Randomisation)
    """What the policy was trained to bear."""
    schema_version: int = SCHEMA_VERSION
    """Version of this form."""

    @property
    def spec(self) -> ObservationSpec:
        """The observation's terms as a spec."""
        return ObservationSpec(self.observation)

    @property
    def command(self) -> CommandSpec:
        """The command's values and bounds."""
        return CommandSpec(self.command_names, self.command_low, self.command_high)

    @property
    def follows_reference(self) -> bool:
        """Whether the policy needs a reference motion."""
        return self.action_mode == "residual_reference" or any(t.name.startswith("ref_") for t in self.observation)

    def validate(self) -> None:
        """Check that the contract agrees with itself.

        Raises:
            ContractError: A field is missing, has another length, or holds a value that cannot be right.
        """
        if self.schema_version != SCHEMA_VERSION:
            raise ContractError(
                f"contract schema is version {self.schema_version}, this program reads {SCHEMA_VERSION}"
            )
        if self.quaternion_order != "wxyz":
            raise ContractError(f"contract quaternion order is '{self.quaternion_order}', expected 'wxyz'")
        if self.action_mode not in ACTION_MODES:
            raise ContractError(f"contract action mode is '{self.action_mode}', expected one of {ACTION_MODES}")
        self._validate_names()
        num_joints = len(self.joint_names)
        for name in _JOINT_FIELDS:
            values = getattr(self, name)
            if len(values) != num_joints:
                raise ContractError(f"contract {name} has {len(values)} values for {num_joints} joints")
            if not all(math.isfinite(value) for value in values):
                raise ContractError(f"contract {name} holds NaN or infinity")
        for name, low, default, high in zip(
            self.joint_names, self.joint_lower, self.default_joint_pos, self.joint_upper, strict=True
        ):
            if not low <= default <= high:
                raise ContractError(f"contract default of joint '{name}' is {default}, outside [{low}, {high}]")
        for name in ("kp", "kd", "effort_limit", "joint_velocity_limit", "action_scale"):
            if min(getattr(self, name)) <= 0:
                raise ContractError(f"contract {name} must be positive for every joint")
        for name in ("control_hz", "physics_dt"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ContractError(f"contract {name} is {value}, expected a positive number")
        substeps = 1.0 / (self.control_hz * self.physics_dt)
        if abs(substeps - round(substeps)) > 1e-6:
            raise ContractError(f"contract control step is {substeps} physics steps, expected a whole number")
        self._validate_observation()
        size = self.spec.size
        if not self.golden_inputs or len(self.golden_inputs) != len(self.golden_outputs):
            raise ContractError("contract needs golden inputs and as many golden outputs")
        for obs, action in zip(self.golden_inputs, self.golden_outputs, strict=True):
            if len(obs) != size or len(action) != num_joints:
                raise ContractError(
                    f"contract golden vectors are {len(obs)} -> {len(action)}, expected {size} -> {num_joints}"
                )
        if not 0 <= self.memory_size <= MAX_VALUES:
            raise ContractError(f"contract memory_size is {self.memory_size}, expected 0 to {MAX_VALUES}")
        rows = len(self.golden_inputs) if self.memory_size else 0
        if [len(row) for row in self.golden_memory] != [self.memory_size] * rows:
            raise ContractError(
                f"contract golden memory must be {rows} rows of {self.memory_size} values, one per golden input"
            )

    def _validate_names(self) -> None:
        names = (self.robot, *self.joint_names, *self.command_names, *(term.name for term in self.observation))
        for name in (*names, *self.versions, *self.versions.values(), *self.hashes, *self.hashes.values()):
            # Names are printed: nothing in them may move a cursor.
            if not (0 < len(name) <= MAX_NAME and name.isprintable()):
                raise ContractError(
                    f"contract holds the name {name[:60]!r}, expected 1 to {MAX_NAME} printable letters"
                )
        if not 0 < len(self.joint_names) <= MAX_JOINTS:
            raise ContractError(f"contract names {len(self.joint_names)} joints, expected 1 to {MAX_JOINTS}")
        for name in self.joint_names:
            if self.joint_names.count(name) > 1:
                raise ContractError(f"contract names joint '{name}' twice; the joint names hold a duplicate")

    def _validate_observation(self) -> None:
        for term in self.observation:
            if term.size < 1 or term.history < 1 or not term.clip > 0:
                raise ContractError(f"contract observation term '{term.name}' needs size, history >= 1 and clip > 0")
            if not math.isfinite(term.scale * term.clip):
                raise ContractError(f"contract observation term '{term.name}' has a scale or clip that is not finite")
        if not 0 < self.spec.size <= MAX_VALUES:
            raise ContractError(f"contract observation has {self.spec.size} values, expected 1 to {MAX_VALUES}")
        if self.follows_reference != bool(self.reference_offsets):
            raise ContractError(
                f"contract reference offsets are {self.reference_offsets} for a policy that follows "
                f"{'a' if self.follows_reference else 'no'} reference"
            )
        try:
            command = self.command
        except InputError as error:
            raise ContractError(f"contract command does not hold: {error}") from None
        read = sum(term.size for term in self.observation if term.name == "command")
        if read != len(command.names):
            raise ContractError(f"contract names {len(command.names)} command values, its observation reads {read}")

    def to_json(self) -> str:
        """Return the contract as JSON; numbers keep every digit (shortest text that reads back equal)."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["observation"] = [dataclasses.asdict(term) for term in self.observation]
        plain["randomisation"] = self.randomisation.plain()
        return json.dumps(plain, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> PolicyContract:
        """Read and validate a contract.

        Raises:
            ContractError: The text is no contract, has unknown, missing or ill-typed fields, or does not validate.
        """
        if len(text) > MAX_CONTRACT_BYTES:
            raise ContractError(f"contract is {len(text)} characters long, the limit is {MAX_CONTRACT_BYTES}")
        try:
            raw = json.loads(text, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"contract is no JSON ({error}); export the policy again") from None
        if not isinstance(raw, dict):
            raise ContractError("contract is no JSON object; export the policy again")
        known = {field.name for field in dataclasses.fields(cls)}
        if raw.get("schema_version") != SCHEMA_VERSION:
            raise ContractError(
                f"contract schema is version {raw.get('schema_version')}, this program reads {SCHEMA_VERSION}"
            )
        if set(raw) != known:
            lacking, extra = sorted(known - set(raw)), sorted(set(raw) - known)
            raise ContractError(
                f"contract lacks fields {lacking} and has unknown fields {extra}; export the policy again"
            )
        contract = cls(**{name: _parse_field(name, value) for name, value in raw.items()})
        contract.validate()
        return contract


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _parse_field(name: str, value: Any) -> Any:
    try:
        if name in ("robot", "action_mode", "quaternion_order"):
            return _typed(value, str)
        if name in ("joint_names", "command_names"):
            return tuple(_typed(item, str) for item in _typed(value, list))
        if name in (*_JOINT_FIELDS, "command_low", "command_high"):
            return tuple(_number(item) for item in _typed(value, list))
        if name in ("golden_inputs", "golden_outputs", "golden_memory"):
            return tuple(tuple(_number(item) for item in _typed(row, list)) for row in _typed(value, list))
        if name == "reference_offsets":
            return tuple(_typed(item, int) for item in _typed(value, list))
        if name in ("control_hz", "physics_dt"):
            return _number(value)
        if name in ("versions", "hashes"):
            return {_typed(key, str): _typed(item, str) for key, item in _typed(value, dict).items()}
        if name == "observation":
            return tuple(_parse_term(item) for item in _typed(value, list))
        if name == "randomisation":
            return Randomisation.from_plain(value)
        return _typed(value, int)
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ContractError(f"contract field '{name}' has a wrong form ({error}); export the policy again") from None


def _parse_term(raw: Any) -> ObservationTerm:
    raw = _typed(raw, dict)
    known = {field.name for field in dataclasses.fields(ObservationTerm)}
    if set(raw) != known:
        raise TypeError(f"an observation term has fields {sorted(raw)}, expected {sorted(known)}")
    return ObservationTerm(
        name=_typed(raw["name"], str),
        size=_typed(raw["size"], int),
        scale=_number(raw["scale"]),
        clip=_number(raw["clip"]),
        history=_typed(raw["history"], int),
        frame=_typed(raw["frame"], str),
    )


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise TypeError(f"{value} is not finite")
    return number


def exact_floats(array: np.ndarray) -> tuple[float, ...]:
    """Return a float32 or float64 vector as Python floats, every bit kept."""
    return tuple(float(value) for value in np.asarray(array).ravel())
