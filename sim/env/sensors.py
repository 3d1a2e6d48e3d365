"""Sensors of a simulated robot: noise, bias and delay as a declaration says."""

from __future__ import annotations

import dataclasses
from typing import Any

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec, quat_mul
from bodydouble.observation import RobotState
from bodydouble.randomisation import Randomisation
from sim.backend.protocol import SimBackend

Array = Any
_SENSORS = {
    "gyro": "root_ang_vel",
    "orientation": "root_quat",
    "odometry": "root_pos",
    "joint_pos": "joint_pos",
    "joint_vel": "joint_vel",
}
"""Sensor, as declarations name it: the field of the state that it reads."""
_FIELDS = tuple(_SENSORS.values())


class Sensors:
    """The sensors of N robots. What they remember is a dictionary of arrays that the caller keeps."""

    def __init__(self, backend: SimBackend, declared: Randomisation) -> None:
        """Check the declaration.

        Raises:
            InputError: It names a sensor that is none, or does with it what has no meaning.
        """
        self._backend = backend
        self._noise, self._bias = {}, {}
        for kind, found, drawn in (("sensor_noise", self._noise, "step"), ("sensor_bias", self._bias, "episode")):
            for term in declared.terms:
                if term.quantity != kind:
                    continue
                if term.of not in _SENSORS:
                    raise InputError(f"{kind} of {term.of!r}: no such sensor; known: {', '.join(_SENSORS)}")
                if (term.how, term.drawn) != ("add", drawn):
                    raise InputError(f"{kind} of {term.of!r} is added, and drawn once per {drawn}; declare it so")
                found[term.of] = term
        delay = declared.term("observation_delay")
        self._delay = delay
        self._longest = 0 if delay is None else int(delay.distribution.support[1])

    def begin(self, state: RobotState) -> dict[str, Array]:
        """Return fresh offsets, delays and past readings for robots whose episodes begin in this state."""
        n, xp = state.joint_pos.shape[0], self._backend.xp
        memory: dict[str, Array] = {}
        for sensor, term in self._bias.items():
            memory[f"bias_{sensor}"] = term.draw(self._backend, n, self._size(sensor, state))
        if self._delay is not None:
            memory["observation_delay"] = xp.astype(self._delay.draw(self._backend, n, 1)[:, 0], xp.int64)
            for field in _FIELDS:
                memory[f"past_{field}"] = xp.stack([getattr(state, field)] * (self._longest + 1), axis=1)
        return memory

    @staticmethod
    def _size(sensor: str, state: RobotState) -> int:
        return 3 if sensor == "orientation" else getattr(state, _SENSORS[sensor]).shape[-1]

    def remember(self, memory: dict[str, Array], state: RobotState) -> dict[str, Array]:
        """Return the memory with the present state as the latest reading."""
        if self._delay is None:
            return memory
        xp = self._backend.xp
        past = {
            f"past_{field}": xp.concat([getattr(state, field)[:, None], memory[f"past_{field}"][:, :-1]], axis=1)
            for field in _FIELDS
        }
        return {**memory, **past}

    def read(self, memory: dict[str, Array], state: RobotState) -> RobotState:
        """Return the state as the sensors see it: late, with their offsets and fresh noise."""
        seen = {field: self._late(memory, field, getattr(state, field)) for field in _FIELDS}
        n = self._backend.num_envs
        for sensor, field in _SENSORS.items():
            error = memory.get(f"bias_{sensor}")
            noise = self._noise.get(sensor)
            if noise is not None:
                drawn = noise.draw(self._backend, n, self._size(sensor, state))
                error = drawn if error is None else error + drawn
            if error is None:
                continue
            if sensor == "orientation":
                error = error + self._backend.xp.zeros_like(state.root_pos)
                seen[field] = quat_mul(seen[field], quat_from_rotvec(error))
            else:
                seen[field] = seen[field] + error
        return dataclasses.replace(state, **seen)

    def _late(self, memory: dict[str, Array], field: str, now: Array) -> Array:
        if self._delay is None:
            return now
        past, delay = memory[f"past_{field}"], memory["observation_delay"]
        value = past[:, 0]
        for steps in range(1, self._longest + 1):
            value = self._backend.xp.where((delay == steps)[:, None], past[:, steps], value)
        return value
