"""Declared randomisation: what differs between a simulation and a robot, by which distribution, drawn how often.

A declaration is plain data: it goes into a policy's contract as JSON and says what the policy was trained to bear. The
numbers are drawn over the array API from a seeded source; every simulation backend is one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
from array_api_compat import array_namespace

from bodydouble.errors import ContractError, InputError

Array = Any
Quantity = Literal[
    "mass", "inertia", "friction", "kp", "kd", "armature", "action_latency", "observation_delay", "sensor_noise",
    "sensor_bias", "push",
]  # fmt: skip
"""What can be randomised. mass: a body's mass, its inertia in proportion; inertia: the inertia alone, on top.

Latency and delay are counted in whole steps: of the physics for an action, of the policy for an observation.
A push is a velocity added to the base along each horizontal axis, m/s.
"""
How = Literal["set", "scale", "add"]
"""What is done with a drawn number: it replaces the nominal value, is a factor on it, or is added to it."""
Drawn = Literal["simulation", "episode", "step", "interval"]
"""When a number is drawn: once per simulation, per episode, per control step, or at random intervals."""
MAX_TERMS = 256
"""Most terms of a declaration."""
MAX_JSON_CHARACTERS = 1 << 20
"""Longest JSON text of a declaration that is read."""
_MAX_NAME = 200
_LARGEST = float(np.finfo(np.float32).max)
_POSITIVE = ("mass", "inertia", "friction", "kp", "kd", "armature")
_STEPS = ("action_latency", "observation_delay")


class RandomSource(Protocol):
    """A seeded source of random arrays; every SimBackend is one."""

    def random(self, *shape: int) -> Array:
        """Return uniform random numbers in [0, 1), float32."""
        ...

    def normal(self, *shape: int) -> Array:
        """Return standard normal random numbers, float32."""
        ...


class NumpySource:
    """A seeded source of numpy arrays."""

    def __init__(self, seed: int) -> None:
        """Begin at a seed."""
        self._rng = np.random.default_rng(seed)

    def random(self, *shape: int) -> np.ndarray:
        """Return uniform random numbers in [0, 1), float32."""
        return self._rng.random(shape, dtype=np.float32)

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal random numbers, float32."""
        return self._rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Constant:
    """Always the same number."""

    value: float
    """The number."""
    kind: str = field(default="constant", init=False)
    """Name of the distribution."""

    def __post_init__(self) -> None:
        _check_finite(self)

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self.value, self.value

    def sample(self, source: RandomSource, *shape: int) -> Array:
        """Return numbers of a shape, float32."""
        return source.random(*shape) * 0.0 + self.value


@dataclass(frozen=True)
class Uniform:
    """Every number between two bounds alike."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    kind: str = field(default="uniform", init=False)
    """Name of the distribution."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check_order(self.kind, self.low, self.high)

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self.low, self.high

    def sample(self, source: RandomSource, *shape: int) -> Array:
        """Return numbers of a shape, float32."""
        return self.low + (self.high - self.low) * source.random(*shape)


@dataclass(frozen=True)
class LogUniform:
    """Every factor between two positive bounds alike: the logarithm is uniform."""

    low: float
    """Lower bound, positive."""
    high: float
    """Upper bound."""
    kind: str = field(default="log_uniform", init=False)
    """Name of the distribution."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check_order(self.kind, self.low, self.high)
        if self.low <= 0:
            raise InputError(f"log_uniform from {self.low} to {self.high}: the lower bound must be positive")

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self.low, self.high

    def sample(self, source: RandomSource, *shape: int) -> Array:
        """Return numbers of a shape, float32."""
        exponent = source.random(*shape) * math.log(self.high / self.low)
        return self.low * array_namespace(exponent).exp(exponent)


@dataclass(frozen=True)
class Normal:
    """A normal distribution; numbers far out are set to a bound, so that no draw is absurd."""

    mean: float
    """Mean."""
    std: float
    """Standard deviation."""
    bound: float = 3.0
    """Largest distance from the mean, in standard deviations."""
    kind: str = field(default="normal", init=False)
    """Name of the distribution."""

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.std < 0 or self.bound <= 0:
            raise InputError(f"normal with std {self.std} and bound {self.bound}: expected std >= 0 and bound > 0")

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self.mean - self.bound * self.std, self.mean + self.bound * self.std

    def sample(self, source: RandomSource, *shape: int) -> Array:
        """Return numbers of a shape, float32."""
        drawn = source.normal(*shape)
        return self.mean + self.std * array_namespace(drawn).clip(drawn, -self.bound, self.bound)


@dataclass(frozen=True)
class Integers:
    """Every whole number between two bounds alike, both included."""

    low: int
    """Smallest number."""
    high: int
    """Largest number."""
    kind: str = field(default="integers", init=False)
    """Name of the distribution."""

    def __post_init__(self) -> None:
        for value in (self.low, self.high):
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"integers from {self.low} to {self.high}: expected whole numbers")
        _check_order(self.kind, self.low, self.high)

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return float(self.low), float(self.high)

    def sample(self, source: RandomSource, *shape: int) -> Array:
        """Return whole numbers of a shape, float32."""
        drawn = source.random(*shape)
        xp = array_namespace(drawn)
        # A float32 just below 1, times the count, can round up to the count itself.
        return self.low + xp.clip(xp.floor(drawn * (self.high - self.low + 1)), 0.0, float(self.high - self.low))


Distribution = Constant | Uniform | LogUniform | Normal | Integers
"""Any distribution."""
DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "constant": Constant, "uniform": Uniform, "log_uniform": LogUniform, "normal": Normal, "integers": Integers,
}  # fmt: skip
"""Every distribution by its kind."""


@dataclass(frozen=True)
class RandomisedTerm:
    """One randomised quantity."""

    quantity: Quantity
    """What is randomised."""
    of: str
    """Of what: "all" joints or bodies, "feet", "base", or the sensor (joint_pos, joint_vel, gyro, ...)."""
    distribution: Distribution
    """The distribution of the drawn numbers."""
    how: How
    """What is done with a number."""
    drawn: Drawn
    """When a number is drawn."""
    each: bool = True
    """Whether each joint, body or axis gets its own number, or all get the same."""
    interval_s: Uniform | Constant | None = None
    """Time between draws, s; only where drawn at intervals."""

    def __post_init__(self) -> None:
        name = f"randomisation of {str(self.quantity)[:40]!r} of {str(self.of)[:40]!r}"
        for what, value, known in (
            ("quantity", self.quantity, get_args(Quantity)),
            ("how", self.how, get_args(How)),
            ("drawn", self.drawn, get_args(Drawn)),
        ):
            if value not in known:
                raise InputError(f"{name}: {what} is {str(value)[:40]!r}, expected one of {', '.join(known)}")
        if not isinstance(self.of, str) or not 0 < len(self.of) <= _MAX_NAME:
            raise InputError(f"{name}: 'of' must be a text of 1 to {_MAX_NAME} characters")
        if not isinstance(self.distribution, get_args(Distribution)):
            raise InputError(f"{name}: has no distribution; give one of {', '.join(DISTRIBUTIONS)}")
        low = self.distribution.support[0]
        if self.quantity in _POSITIVE and self.how != "add" and low <= 0:
            raise InputError(f"{name}: can become {low}, expected positive numbers only")
        if self.quantity in _STEPS and (self.how != "set" or not self._whole() or low < 0):
            raise InputError(f"{name}: must be set to whole numbers of steps from 0; use integers or a constant")
        if (self.drawn == "interval") != (self.interval_s is not None):
            raise InputError(f"{name}: interval_s goes with drawn 'interval', and only with it")
        if self.interval_s is not None and self.interval_s.support[0] <= 0:
            raise InputError(f"{name}: an interval of {self.interval_s.support[0]} s; expected a positive time")

    def _whole(self) -> bool:
        distribution = self.distribution
        constant = isinstance(distribution, Constant) and float(distribution.value).is_integer()
        return constant or isinstance(distribution, Integers)

    def draw(self, source: RandomSource, count: int, size: int) -> Array:
        """Return numbers for `count` simulations and `size` joints, bodies or axes: (count, size), or (count, 1)."""
        return self.distribution.sample(source, count, size if self.each else 1)


@dataclass(frozen=True)
class Randomisation:
    """A whole declaration; empty, nothing is randomised."""

    terms: tuple[RandomisedTerm, ...] = ()
    """The terms; no two of the same quantity of the same thing."""

    def __post_init__(self) -> None:
        if len(self.terms) > MAX_TERMS:
            raise InputError(f"randomisation has {len(self.terms)} terms, the limit is {MAX_TERMS}")
        seen: set[tuple[str, str]] = set()
        for term in self.terms:
            if (term.quantity, term.of) in seen:
                raise InputError(f"randomisation names {term.quantity!r} of {term.of!r} twice; give one distribution")
            seen.add((term.quantity, term.of))

    def term(self, quantity: Quantity, of: str = "all") -> RandomisedTerm | None:
        """Return the term of a quantity, or None where it is not randomised."""
        return next((term for term in self.terms if (term.quantity, term.of) == (quantity, of)), None)

    def plain(self) -> list[dict[str, Any]]:
        """Return the declaration as JSON types; numbers keep every digit."""
        return [dataclasses.asdict(term) for term in self.terms]

    @classmethod
    def from_plain(cls, raw: Any) -> Randomisation:
        """Read what `plain` returned, or foreign JSON of that form.

        Raises:
            ContractError: The form is another, or a distribution cannot be.
        """
        if not isinstance(raw, list):
            raise ContractError(f"randomisation is {type(raw).__name__}, expected a list of terms")
        if len(raw) > MAX_TERMS:
            raise ContractError(f"randomisation has {len(raw)} terms, the limit is {MAX_TERMS}")
        try:
            return cls(tuple(_parse_term(item) for item in raw))
        except ContractError:
            raise
        except InputError as error:
            raise ContractError(str(error)) from None

    def to_json(self) -> str:
        """Return the declaration as JSON."""
        return json.dumps(self.plain(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Randomisation:
        """Read a declaration.

        Raises:
            ContractError: The text is no declaration.
        """
        if len(text) > MAX_JSON_CHARACTERS:
            raise ContractError(f"randomisation is {len(text)} characters long, the limit is {MAX_JSON_CHARACTERS}")
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"randomisation is no JSON ({error})") from None
        return cls.from_plain(raw)


def sample_all(declared: Randomisation, seed: int, count: int, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return one draw of every term by "quantity of", for looking at a declaration.

    Args:
        declared: The declaration.
        seed: Seed.
        count: Number of simulations N.
        sizes: Number of joints, bodies or axes by `of`; 1 where not named.

    Returns:
        Numbers (N, size), float32.
    """
    source = NumpySource(seed)
    return {
        f"{term.quantity} {term.of}": np.asarray(term.draw(source, count, sizes.get(term.of, 1)), dtype=np.float32)
        for term in declared.terms
    }


def _check_finite(distribution: Any) -> None:
    for item in dataclasses.fields(distribution):
        value = getattr(distribution, item.name)
        if item.name == "kind":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
            raise InputError(f"{distribution.kind}: {item.name} is {str(value)[:40]!r}, expected a finite number")


def _check_order(kind: str, low: float, high: float) -> None:
    if low > high:
        raise InputError(f"{kind} from {low} to {high}: the lower bound is above the upper one")


def _parse_distribution(raw: Any) -> Distribution:
    if not isinstance(raw, dict) or raw.get("kind") not in DISTRIBUTIONS:
        kind = raw.get("kind") if isinstance(raw, dict) else raw
        raise ContractError(f"randomisation has distribution {str(kind)[:40]!r}, expected one of {list(DISTRIBUTIONS)}")
    kind = DISTRIBUTIONS[raw["kind"]]
    names = {item.name for item in dataclasses.fields(kind)}
    if set(raw) != names:
        raise ContractError(f"distribution {raw['kind']} has fields {sorted(map(str, raw))}, expected {sorted(names)}")
    return kind(**{name: value for name, value in raw.items() if name != "kind"})


def _parse_term(raw: Any) -> RandomisedTerm:
    names = {item.name for item in dataclasses.fields(RandomisedTerm)}
    if not isinstance(raw, dict) or set(raw) != names:
        found = sorted(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        raise ContractError(f"a term of the randomisation has fields {found}, expected {sorted(names)}")
    if not isinstance(raw["each"], bool):
        raise ContractError(f"a term of the randomisation has each {str(raw['each'])[:40]!r}, expected true or false")
    interval = None if raw["interval_s"] is None else _parse_distribution(raw["interval_s"])
    if interval is not None and not isinstance(interval, Uniform | Constant):
        raise ContractError(f"a term of the randomisation has a {interval.kind} interval, expected uniform or constant")
    return RandomisedTerm(
        quantity=raw["quantity"],
        of=raw["of"],
        distribution=_parse_distribution(raw["distribution"]),
        how=raw["how"],
        drawn=raw["drawn"],
        each=raw["each"],
        interval_s=interval,
    )
