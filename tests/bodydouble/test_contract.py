import contextlib
import dataclasses
import json
import re
from pathlib import Path

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
        ({"joint_names": ("hip", "hip")}, "names joint 'hip' twice; the joint names hold a duplicate"),
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


def test_a_field_that_stands_twice():
    text = contract().to_json()
    with pytest.raises(ContractError, match="a name stands twice in one object"):
        PolicyContract.from_json(text.replace('"kp":', '"robot": "other", "kp":'))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_names": ("hip", "kn\x1b[2Jee")}, r"holds the name 'kn\\x1b\[2Jee', expected 1 to 200 printable"),
        ({"robot": ""}, "holds the name ''"),
        ({"robot": "x" * 201}, "holds the name 'xxx"),
        ({"joint_names": ()}, "names 0 joints, expected 1 to 1024"),
        ({"joint_names": tuple(f"j{i}" for i in range(1025))}, "names 1025 joints"),
        (
            {"observation": (ObservationTerm("joint_pos", 1 << 62, 1.0, 1.0, 1 << 62, "joint"),)},
            "expected 1 to 1048576",
        ),
        ({"observation": (ObservationTerm("joint_pos", 2, 1e200, 1e200, 1, "joint"),)}, "scale or clip that is not"),
        ({"memory_size": 1 << 62}, "memory_size is 4611686018427387904, expected 0 to 1048576"),
        ({"observation": ()}, "observation has 0 values"),
    ],
)
def test_names_and_sizes_have_limits(changes, message):
    with pytest.raises(ContractError, match=message):
        contract(**changes).validate()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"schema_version": 1, "robot": ' + "9" * 5000 + "}", "[1e999]", "[NaN]"],
    ids=["lists", "objects", "digits", "infinite", "nan"],
)
def test_hostile_json(text):
    with pytest.raises(ContractError):
        PolicyContract.from_json(text)


def test_a_nested_field_of_every_kind():
    """Values nested as deep as the parser takes them, in every field: an error of ours, whatever prints them."""
    raw = json.loads(contract().to_json())
    deep = "[" * 950 + "]" * 950
    for name in raw:
        text = json.dumps({**raw, name: "DEEP"}).replace('"DEEP"', deep)
        with pytest.raises(ContractError):
            PolicyContract.from_json(text)


def test_a_text_beyond_the_limit():
    with pytest.raises(ContractError, match="is 8388609 characters long, the limit is 8388608"):
        PolicyContract.from_json(" " * ((8 << 20) + 1))


@given(st.text(max_size=40))
def test_any_text_is_a_contract_error(text):
    with pytest.raises(ContractError):
        PolicyContract.from_json(text)


# Version 1 is frozen.

FIXTURE = Path(__file__).with_name("contract_v1.json")
FROZEN = {
    "action_mode", "action_scale", "command_high", "command_low", "command_names", "control_hz", "default_joint_pos",
    "effort_limit", "golden_inputs", "golden_memory", "golden_outputs", "hashes", "joint_lower", "joint_names",
    "joint_upper", "joint_velocity_limit", "kd", "kp", "memory_size", "observation", "physics_dt", "quaternion_order",
    "randomisation", "reference_offsets", "robot", "schema_version", "versions",
}  # fmt: skip
"""Fields of version 1: another set of fields is another version."""


def test_a_contract_of_version_1_always_loads():
    """The file is of the day version 1 was frozen: it is never written again, and it must load with every digit."""
    text = FIXTURE.read_text()
    found = PolicyContract.from_json(text)
    assert set(json.loads(text)) == FROZEN == {field.name for field in dataclasses.fields(PolicyContract)}
    assert json.loads(found.to_json()) == json.loads(text)
    assert found.joint_names == ("hip", "knee") and found.observation[1].history == 2
    assert found.golden_inputs[1][0] == 1 / 3 and found.golden_memory[1] == (0.9, 1e-7)
    assert (found.memory_size, found.command.names, found.reference_offsets) == (2, ("speed",), (1, 4, 10, 20))
    assert [term.quantity for term in found.randomisation.terms] == [
        "mass", "action_latency", "sensor_noise", "friction", "push",
    ]  # fmt: skip


def test_a_contract_from_before_version_1_was_frozen_is_refused():
    raw = json.loads(FIXTURE.read_text())
    del raw["memory_size"], raw["randomisation"]
    with pytest.raises(ContractError, match=r"lacks fields \['memory_size', 'randomisation'\].*export"):
        PolicyContract.from_json(json.dumps(raw))


def test_the_page_names_every_field():
    """docs/contract.md has one row for each field of the contract, of an observation term and of a randomised term."""
    page = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
    for title, kind in (
        ("Fields", PolicyContract), ("Observation terms", ObservationTerm), ("Randomised terms", RandomisedTerm)
    ):  # fmt: skip
        section = page.split(f"## {title}\n")[1].split("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        assert sorted(named) == sorted(field.name for field in dataclasses.fields(kind)), title
