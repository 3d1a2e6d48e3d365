"""What a sweep varies: settings of a training by their dotted names, in a grid or drawn at random."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bodydouble.errors import InputError
from policy.optim.registry import REGISTRY
from policy.rl.objectives.registry import OBJECTIVES

Config = TypeVar("Config")
_RANGE = re.compile(r"(?P<low>[-+0-9.eE]+)\.\.(?P<high>[-+0-9.eE]+)(?P<log>:log)?")


@dataclass(frozen=True)
class Axis:
    """One setting that varies."""

    name: str
    """Its dotted name, e.g. "ppo.optimizer.lr"."""
    values: tuple[str, ...] = ()
    """Values to take."""
    low: float = 0.0
    """Lower end of a range, where there are no values."""
    high: float = 0.0
    """Upper end."""
    log: bool = False
    """Whether its logarithm is drawn uniformly."""

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read NAME=VALUE,VALUE,... or NAME=LOW..HIGH, with ":log" after it for a logarithmic range.

        Raises:
            InputError: The text is neither.
        """
        name, equals, rest = text.partition("=")
        if not (name and equals and rest):
            raise InputError(
                f"--sweep.vary {text!r}: expected NAME=VALUE,VALUE,... or NAME=LOW..HIGH or NAME=LOW..HIGH:log"
            )
        if ".." not in rest:
            return cls(name, tuple(_split(rest)))
        try:
            found = _RANGE.fullmatch(rest)
            if found is None:
                raise ValueError
            low, high = float(found["low"]), float(found["high"])
        except ValueError:
            raise InputError(f"--sweep.vary {text!r}: {rest} is no range of numbers") from None
        log = found["log"] is not None
        if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
            raise InputError(f"--sweep.vary {text!r}: a range goes up, and a logarithmic one starts above 0")
        return cls(name, (), low, high, log)

    def draw(self, rng: np.random.Generator) -> str:
        """Return a random value as text."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.log:
            return f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.6g}"
        return f"{rng.uniform(self.low, self.high):.6g}"


def settings(axes: Sequence[Axis], *, draws: int, seed: int) -> list[dict[str, str]]:
    """Return the values of every setting that a sweep tries.

    Args:
        axes: What varies.
        draws: Random draws; 0 takes the whole grid.
        seed: Seed of the draws.

    Raises:
        InputError: An axis comes twice, or a grid has a range.
    """
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise InputError(f"--sweep.vary names {next(name for name in names if names.count(name) > 1)} twice")
    if draws:
        rng = np.random.default_rng(seed)
        return [{axis.name: axis.draw(rng) for axis in axes} for _ in range(draws)]
    ranges = [axis.name for axis in axes if not axis.values]
    if ranges:
        raise InputError(
            f"--sweep.vary {ranges[0]}: a range has no grid; name values, or draw at random with --sweep.draws N"
        )
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def with_settings(config: Config, values: dict[str, str]) -> Config:
    """Return a training's configuration with some settings replaced.

    Args:
        config: A frozen dataclass, of dataclasses.
        values: Text by dotted name: a number, a word, a JSON list, or the name of an optimizer or objective.

    Raises:
        InputError: There is no such setting, or the value does not fit it.
    """
    for name, text in values.items():
        config = _replaced(config, name.split("."), text, name)
    return config


def _replaced(config: Any, path: Sequence[str], text: str, name: str) -> Any:
    known = {field.name for field in dataclasses.fields(config) if field.init}
    if path[0] not in known:
        raise InputError(f"--sweep.vary {name}: there is no {path[0]!r} among {', '.join(sorted(known))}")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise InputError(f"--sweep.vary {name}: {path[0]} has no settings of its own")
        new = _replaced(old, path[1:], text, name)
    else:
        new = _value(old, typing.get_type_hints(type(config))[path[0]], text, name)
    return dataclasses.replace(config, **{path[0]: new})


def _value(old: Any, hint: Any, text: str, name: str) -> Any:
    """Return a text as a value of a field's type."""
    kinds: tuple[tuple[dict[str, Any], Callable[[Any], Any]], ...] = (
        (REGISTRY, lambda kind: kind(lr=old.lr)),
        (OBJECTIVES, lambda kind: kind()),
    )
    for registry, make in kinds:
        if type(old) in registry.values():
            if text not in registry:
                raise InputError(f"--sweep.vary {name}: {text!r} is none of {', '.join(registry)}")
            return make(registry[text])
    if typing.get_origin(hint) is typing.Literal:
        if text in typing.get_args(hint):
            return text
        raise InputError(f"--sweep.vary {name}: {text!r} is none of {', '.join(map(str, typing.get_args(hint)))}")
    if hint is str:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, bool) and type(value) is hint:
        return value
    raise InputError(f"--sweep.vary {name}: {text!r} is no {getattr(hint, '__name__', hint)}")


def _split(text: str) -> list[str]:
    """Return the parts between commas outside of brackets."""
    return [part for part in re.split(r",(?![^\[]*\])", text) if part]
