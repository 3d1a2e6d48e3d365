"""Signed policies: what was signed and by whom decides before anything of the file is parsed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest

from bodydouble.cli import main
from bodydouble.errors import ContractError, InputError
from robot import policy_file
from robot.policy_file import PolicyFile
from robot.signing import SIGNATURE_KEY, generate_key, sign, split_signature, trusted_signers
from tests.robot.faults import FaultLog
from tests.robot.samples import toy_policy

pytest.importorskip("cryptography")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return toy_policy(tmp_path / "toy.onnx")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A private key; its public one is the only one in the folder `known`."""
    key = tmp_path / "keys" / "lab.pem"
    public = generate_key(key)
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "lab.pub").write_bytes(public.read_bytes())
    return key


def test_a_signed_policy_runs_where_its_signer_is_known(policy: Path, lab: Path, tmp_path: Path) -> None:
    known, signed = tmp_path / "known", tmp_path / "signed.onnx"
    found = sign(policy, lab, signed)
    loaded = PolicyFile(signed, known)
    assert loaded.signer == "lab"
    assert PolicyFile(signed).signer == found.fingerprint, "without known signers the key's fingerprint is told"
    assert PolicyFile(policy).signer == ""
    obs = np.zeros(loaded.contract.spec.size, dtype=np.float32)
    np.testing.assert_array_equal(loaded.act(obs), PolicyFile(policy).act(obs))
    onnx.checker.check_model(onnx.load(str(signed)))


def test_unsigned_where_signatures_are_required(
    policy: Path, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault_log: FaultLog
) -> None:
    def parsed(*args: object) -> None:
        pytest.fail("the file was parsed before its signer was known")

    monkeypatch.setattr(policy_file, "parse_model", parsed)
    with pytest.raises(ContractError) as error:
        PolicyFile(policy, tmp_path / "known")
    assert str(error.value) == f"{policy}: is not signed, and this robot runs only what lab signed"
    fault_log.passed("onnx_unsigned", "refused before it is parsed")


def test_a_key_that_is_not_known(policy: Path, lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    generate_key(other)
    found = sign(policy, other, policy)
    with pytest.raises(ContractError) as error:
        PolicyFile(policy, tmp_path / "known")
    assert str(error.value) == (
        f"{policy}: is signed with an unknown key ({found.fingerprint}), and this robot runs only what lab signed"
    )


@pytest.mark.parametrize("trusting", [True, False])
def test_any_changed_byte_is_found(policy: Path, lab: Path, tmp_path: Path, trusting: bool) -> None:
    """Whichever byte is changed: a signed file is refused, also where nobody asked for a signature."""
    signed = tmp_path / "signed.onnx"
    sign(policy, lab, signed)
    sound = signed.read_bytes()
    unsigned, _ = split_signature(sound)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(unsigned), 60):
        data = bytearray(sound)
        data[at] ^= 1 << int(rng.integers(8))
        signed.write_bytes(data)
        with pytest.raises(ContractError, match="was changed after it was signed"):
            PolicyFile(signed, tmp_path / "known" if trusting else None)
    for at in range(len(unsigned), len(sound)):
        data = bytearray(sound)
        data[at] ^= 1
        signed.write_bytes(data)
        with pytest.raises(ContractError):
            PolicyFile(signed, tmp_path / "known")


def test_a_signature_elsewhere_is_none(policy: Path, lab: Path, tmp_path: Path) -> None:
    """A signed file with something behind the signature, and one whose signature is moved into the middle."""
    signed = tmp_path / "signed.onnx"
    sign(policy, lab, signed)
    more = onnx.ModelProto(producer_name="x").SerializeToString()
    signed.write_bytes(signed.read_bytes() + more)
    with pytest.raises(ContractError, match="is not signed"):
        PolicyFile(signed, tmp_path / "known")
    with pytest.raises(ContractError, match="its signature is damaged or not at the file's end"):
        PolicyFile(signed)


def test_signing_again_replaces_the_signature(policy: Path, lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    generate_key(other)
    before = policy.read_bytes()
    sign(policy, other, policy)
    sign(policy, lab, policy)
    unsigned, _ = split_signature(policy.read_bytes())
    assert unsigned == before and PolicyFile(policy, tmp_path / "known").signer == "lab"
    assert [entry.key for entry in onnx.load(str(policy)).metadata_props].count(SIGNATURE_KEY) == 1


def test_a_policy_that_is_refused_is_not_signed(policy: Path, lab: Path, tmp_path: Path) -> None:
    policy.write_bytes(policy.read_bytes()[:-40])
    with pytest.raises(ContractError):
        sign(policy, lab, tmp_path / "signed.onnx")
    assert not (tmp_path / "signed.onnx").exists()


def test_keys(tmp_path: Path) -> None:
    """A private key is its owner's alone whatever the umask says, and no key is ever written over."""
    before = os.umask(0)
    try:
        public = generate_key(tmp_path / "lab.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lab.pem").stat().st_mode) == 0o600
    assert list(trusted_signers(tmp_path).values()) == ["lab"]
    for path in (tmp_path / "lab.pem", tmp_path / "lab.key"):
        with pytest.raises(InputError, match=r"lab\.(pem|pub): cannot be written \(.+\); name another file"):
            generate_key(path)
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"x" * 5000]
)
def test_files_that_are_no_keys(policy: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "lab.pub").write_bytes(content)
    with pytest.raises(InputError, match=r"lab\.pub"):
        PolicyFile(policy, tmp_path / "known")
    with pytest.raises(InputError, match=r"lab\.pub"):
        sign(policy, tmp_path / "known" / "lab.pub", policy)


def test_a_folder_without_keys(policy: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="holds 0 public keys"):
            PolicyFile(policy, folder)


def test_on_the_command_line(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "keys" / "lab.pem"
    assert main(["keygen", "--key", str(key)]) == 0
    assert main(["sign", str(policy), "--key", str(key)]) == 0
    assert main(["inspect", str(policy), "--trusted", str(key.parent)]) == 0
    assert "signed by lab" in " ".join(capsys.readouterr().out.split())
    assert main(["sign", str(policy), "--key", str(tmp_path / "none.pem")]) == 2
    assert "none.pem: no such file" in capsys.readouterr().err
