import contextlib
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.contract import PolicyContract
from bodydouble.errors import ContractError
from bodydouble.observation import ObservationTerm
from bodydouble.randomisation import LogUniform, Randomisation, RandomisedTerm, Uniform

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def contract(**changes) -> PolicyContract:
    values = {
        "robot": "toy",
        "joint_names": ("hip", "knee"),
        "default_joint_pos": (0.1, -0.2),
        "kp": (10.0, 20.0),
        "kd": (1.0, 2.0),
        "effort_limit": (5.0, 6.0),
        "joint_lower": (-1.0, -2.0),
        "joint_upper": (1.0, 2.0),
        "joint_velocity_limit": (10.0, 10.0),
        "action_mode": "residual_reference",
        "action_scale": (0.25, 0.5),
        "observation": (ObservationTerm("joint_pos", 2, 1.0, 10.0, 1, "joint"),),
        "reference_offsets": (1,),
        "control_hz": 50.0,
        "physics_dt": 0.005,
        "quaternion_order": "wxyz",
        "versions": {"bodydouble": "0"},
        "hashes": {"weights": "0"},
        "golden_inputs": ((0.1, 0.2),),
        "golden_outputs": ((0.3, 0.4),),
    }
    return PolicyContract(**{**values, **changes})


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=4))
def test_json_round_trip_keeps_every_bit(golden):
    mine = contract(golden_inputs=tuple(golden), golden_outputs=tuple(golden))
    assert PolicyContract.from_json(mine.to_json()) == mine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quaternion_order": "xyzw"}, "quaternion order is 'xyzw'"),
        ({"joint_names": ("hip", "hip")}, "duplicate"),
        ({"kp": (1.0,)}, "kp has 1 values for 2 joints"),
        ({"kd": (1.0, 0.0)}, "kd must be positive"),
        ({"default_joint_pos": (1.5, 0.0)}, "default of joint 'hip' is 1.5"),
        ({"physics_dt": 0.003}, "whole number"),
        ({"control_hz": float("nan")}, "control_hz"),
        ({"action_mode": "torque"}, "action mode is 'torque'"),
        ({"golden_inputs": ((0.1,),)}, "golden vectors are 1 -> 2, expected 2 -> 2"),
        ({"golden_inputs": (), "golden_outputs": ()}, "golden"),
        ({"schema_version": 99}, "version 99"),
        ({"memory_size": -1}, "memory_size is -1"),
        ({"memory_size": 2}, "golden memory must be 1 rows of 2 values"),
        ({"golden_memory": ((1.0,),)}, "golden memory must be 0 rows of 0 values"),
        ({"action_mode": "residual_default"}, r"offsets are \(1,\) for a policy that follows no reference"),
        ({"reference_offsets": ()}, r"offsets are \(\) for a policy that follows a reference"),
        ({"observation": (ObservationTerm("joint_pos", 0, 1.0, 1.0, 1, "joint"),)}, "needs size, history >= 1"),
        ({"command_names": ("vx",), "command_low": (0.0,), "command_high": (1.0,)}, "names 1 command values, its obs"),
        ({"command_names": ("vx",), "command_low": (0.0,)}, "needs as many bounds"),
        ({"command_names": ("vx",), "command_low": (2.0,), "command_high": (1.0,)}, "the lower one first"),
    ],
)
def test_validation_names_the_field(changes, message):
    with pytest.raises(ContractError, match=message):
        contract(**changes).validate()


def walking(**changes) -> PolicyContract:
    """A policy with a memory that follows no reference and is told how fast to walk."""
    terms = (
        ObservationTerm("command", 3, 1.0, 10.0, 1, "none"),
        ObservationTerm("joint_pos", 2, 1.0, 10.0, 1, "joint"),
    )
    mass = RandomisedTerm("mass", "all", LogUniform(0.8, 1.25), "scale", "simulation")
    push = RandomisedTerm("push", "base", Uniform(-0.5, 0.5), "add", "interval", interval_s=Uniform(5.0, 10.0))
    values = {
        "action_mode": "residual_default",
        "observation": terms,
        "reference_offsets": (),
        "memory_size": 2,
        "golden_inputs": ((0.1,) * 5, (0.2,) * 5),
        "golden_outputs": ((0.3, 0.4), (0.5, 0.6)),
        "golden_memory": ((0.7, 0.8), (0.9, 1.0)),
        "command_names": ("vx", "vy", "yaw_rate"),
        "command_low": (-0.5, -0.3, -1.0),
        "command_high": (1.0, 0.3, 1.0),
        "randomisation": Randomisation((mass, push)),
    }
    return contract(**{**values, **changes})


def test_memory_command_and_randomisation_read_back():
    mine = walking()
    again = PolicyContract.from_json(mine.to_json())
    assert again == mine and not again.follows_reference and contract().follows_reference
    assert again.command.check((1.0, 0.0, -1.0)).tolist() == [1.0, 0.0, -1.0]
    assert again.randomisation.term("mass") is not None


def test_missing_and_unknown_fields_are_named():
    raw = json.loads(contract().to_json())
    del raw["kp"]
    raw["gain"] = [1]
    with pytest.raises(ContractError, match=r"lacks fields \['kp'\] and has unknown fields \['gain'\]"):
        PolicyContract.from_json(json.dumps(raw))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.sampled_from([field.name for field in dataclasses.fields(PolicyContract)]), json_values)
def test_a_field_of_any_other_form_is_a_contract_error_or_reads_back(name, value):
    raw = json.loads(contract().to_json())
    raw[name] = value
    with contextlib.suppress(ContractError):
        PolicyContract.from_json(json.dumps(raw)).validate()


@given(st.text(max_size=40))
def test_any_text_is_a_contract_error(text):
    with pytest.raises(ContractError):
        PolicyContract.from_json(text)
