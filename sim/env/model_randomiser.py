"""Models that differ between simulations, as a declaration says: masses, inertias, friction, gains, armatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodydouble.errors import InputError
from bodydouble.randomisation import Randomisation, RandomisedTerm
from sim.backend.protocol import SimBackend
from sim.env.controlled_robot import ControlledRobot

Array = Any
_FIELDS = ("mass", "inertia", "friction", "kp", "kd", "armature")


def randomise_models(backend: SimBackend, declared: Randomisation, robot: ControlledRobot) -> None:
    """Give every simulation its own model fields, once, before the first step.

    Raises:
        InputError: A term is of something unknown, or is not drawn once per simulation.
    """
    for term in declared.terms:
        if term.quantity in _FIELDS and term.drawn != "simulation":
            raise InputError(f"{term.quantity} of {term.of!r} is drawn per {term.drawn}; models change per simulation")
        expected = ("feet", "all") if term.quantity == "friction" else ("all",)
        if term.quantity in _FIELDS and term.of not in expected:
            raise InputError(f"{term.quantity} of {term.of!r}: expected it of {' or '.join(expected)}")
    _friction(backend, declared, robot)
    _mass(backend, declared)
    _gains(backend, declared, robot)
    _armature(backend, declared, robot)


def _changed(term: RandomisedTerm, nominal: Array, drawn: Array) -> Array:
    """Return the nominal values (1, K) changed by drawn numbers (N, K or 1)."""
    if term.how == "scale":
        return nominal * drawn
    return nominal + drawn if term.how == "add" else nominal * 0.0 + drawn


def _friction(backend: SimBackend, declared: Randomisation, robot: ControlledRobot) -> None:
    model, n = backend.model, backend.num_envs
    terms = [term for term in declared.terms if term.quantity == "friction"]
    if not terms:
        return
    friction = backend.asarray(np.tile(model.geom_friction, (n, 1, 1)))
    for term in terms:
        ids = [model.geom(name).id for name in robot.foot_geoms] if term.of == "feet" else list(range(model.ngeom))
        if not ids:
            raise InputError(f"robot {robot.name}: has no feet whose friction could differ; declare it of 'all'")
        nominal = backend.asarray(model.geom_friction[ids, 0])[None]
        friction[:, ids, 0] = _changed(term, nominal, term.draw(backend, n, len(ids)))
    backend.set_model_field("geom_friction", friction)


def _mass(backend: SimBackend, declared: Randomisation) -> None:
    model, n = backend.model, backend.num_envs
    mass_term, inertia_term = declared.term("mass"), declared.term("inertia")
    inertia = backend.asarray(model.body_inertia)[None]
    if mass_term is not None:
        nominal = backend.asarray(model.body_mass)[None]
        mass = _changed(mass_term, nominal, mass_term.draw(backend, n, model.nbody))
        # The world weighs nothing, which is no factor.
        factor = mass / backend.xp.where(nominal > 0, nominal, backend.xp.ones_like(nominal))
        backend.set_model_field("body_mass", mass)
        inertia = inertia * factor[..., None]
    if inertia_term is not None:
        inertia = _changed(inertia_term, inertia, inertia_term.draw(backend, n, model.nbody)[..., None])
    if mass_term is not None or inertia_term is not None:
        backend.set_model_field("body_inertia", inertia)


def _gains(backend: SimBackend, declared: Randomisation, robot: ControlledRobot) -> None:
    model, n, j = backend.model, backend.num_envs, robot.num_joints
    kp_term, kd_term = declared.term("kp"), declared.term("kd")
    if kp_term is None and kd_term is None:
        return
    gain = backend.asarray(np.tile(model.actuator_gainprm, (n, 1, 1)))
    bias = backend.asarray(np.tile(model.actuator_biasprm, (n, 1, 1)))
    if kp_term is not None:
        nominal = backend.asarray(robot.kp)[None]
        kp = _changed(kp_term, nominal, kp_term.draw(backend, n, j))
        gain[:, :j, 0] *= kp / nominal
        bias[:, :j, 1] *= kp / nominal
    if kd_term is not None:
        nominal = backend.asarray(robot.kd)[None]
        bias[:, :j, 2] = -_changed(kd_term, nominal, kd_term.draw(backend, n, j))
    backend.set_model_field("actuator_gainprm", gain)
    backend.set_model_field("actuator_biasprm", bias)


def _armature(backend: SimBackend, declared: Randomisation, robot: ControlledRobot) -> None:
    term = declared.term("armature")
    if term is None:
        return
    model, n = backend.model, backend.num_envs
    dofs = [int(model.jnt_dofadr[model.joint(name).id]) for name in robot.joint_names]
    armature = backend.asarray(np.tile(model.dof_armature, (n, 1)))
    nominal = backend.asarray(model.dof_armature[dofs])[None]
    armature[:, dofs] = _changed(term, nominal, term.draw(backend, n, len(dofs)))
    backend.set_model_field("dof_armature", armature)
