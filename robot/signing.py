"""Signed policy files: Ed25519 over every byte of the file, so that a robot can run only what known people made.

A signed file is the unsigned one with one metadata entry more, at its end, always of the same length:

    unsigned bytes | metadata entry: bodydouble.signature = "ed25519 PUBLIC_KEY SIGNATURE", both base64

The signature is over a prefix of ours and the SHA-256 of the unsigned bytes: network, weights and contract are all in
them, and nothing of the file has to be parsed before the signer is known. Keys are PEM files, as OpenSSL writes them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bodydouble.artifacts import atomic_file
from bodydouble.errors import ContractError, InputError
from robot.onnx_file import read_bounded

SIGNATURE_KEY = "bodydouble.signature"
"""Key of the signature in an ONNX file's metadata."""
PUBLIC_SUFFIX = ".pub"
"""Ending of the files of public keys."""
MAX_KEY_BYTES = 4096
"""Largest file of a key that is read."""
MAX_SIGNERS = 1000
"""Most keys of a folder of known signers."""
_PREFIX = b"bodydouble policy signature 1\0"
_PUBLIC_BYTES, _SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True)
class Signature:
    """A file's signature, as it stands there."""

    public_key: bytes
    """Public key of who signed, 32 bytes."""
    signature: bytes
    """The signature, 64 bytes."""

    @property
    def fingerprint(self) -> str:
        """Return the start of the key's SHA-256, for people to compare."""
        return fingerprint(self.public_key)


def fingerprint(public_key: bytes) -> str:
    """Return the first 16 hexadecimal digits of a public key's SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def split_signature(data: bytes) -> tuple[bytes, Signature | None]:
    """Return a file's bytes without its signature, and the signature; None where it has none at its end."""
    empty = _entry(Signature(bytes(_PUBLIC_BYTES), bytes(_SIGNATURE_BYTES)))
    tail = data[-len(empty) :]
    head = len(empty) - len(_text(bytes(_PUBLIC_BYTES), bytes(_SIGNATURE_BYTES)))
    if len(tail) != len(empty) or tail[:head] != empty[:head]:
        return data, None
    try:
        kind, public, signature = tail[head:].decode("ascii").split(" ")
        found = Signature(base64.b64decode(public, validate=True), base64.b64decode(signature, validate=True))
    except (ValueError, binascii.Error):
        return data, None
    # Only the one spelling that `sign` writes counts, so that a file has one signed form.
    if kind != "ed25519" or _entry(found) != tail:
        return data, None
    return data[: -len(empty)], found


def check_signature(path: Path, data: bytes, trusted: Path | None) -> str:
    """Check a file's signature, before anything else of it is read.

    Args:
        path: The file's name, for messages.
        data: Its bytes.
        trusted: Folder of the public keys (.pub) of known signers; None takes unsigned files too.

    Returns:
        Who signed: the name of the known signer, or the fingerprint of an unknown key; empty for an unsigned file.

    Raises:
        ContractError: The file was changed after it was signed, or it is unsigned or signed by someone unknown where
            known signers are required.
    """
    known = {} if trusted is None else trusted_signers(trusted)
    unsigned, found = split_signature(data)
    if found is None:
        if trusted is not None:
            raise ContractError(f"{path}: is not signed, and this robot runs only what {_who(known)} signed")
        return ""
    if trusted is not None and found.public_key not in known:
        raise ContractError(
            f"{path}: is signed with an unknown key ({found.fingerprint}), and this robot runs only what "
            f"{_who(known)} signed"
        )
    ed25519 = _library()
    if not _holds(ed25519, found, unsigned):
        raise ContractError(f"{path}: was changed after it was signed ({found.fingerprint}); get the file again")
    return known.get(found.public_key, found.fingerprint)


def trusted_signers(folder: Path) -> dict[bytes, str]:
    """Return the public keys of a folder and their names, which are the files' names without .pub.

    Raises:
        InputError: There is no such folder, it holds no key, or a file in it is none.
    """
    files = sorted(folder.glob(f"*{PUBLIC_SUFFIX}")) if folder.is_dir() else []
    if not 0 < len(files) <= MAX_SIGNERS:
        raise InputError(
            f"{folder}: holds {len(files)} public keys (*{PUBLIC_SUFFIX}), expected 1 to {MAX_SIGNERS}; make them "
            "with `bodydouble keygen`"
        )
    return {_public_key(file): file.stem for file in files}


def generate_key(path: Path) -> Path:
    """Write a new private key, readable by its owner alone, and its public key beside it.

    Args:
        path: File of the private key; the public one gets the same name with .pub.

    Returns:
        File of the public key.

    Raises:
        InputError: One of the files is there already, or cannot be written.
    """
    _library()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_suffix(PUBLIC_SUFFIX)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path == public_path or public_path.exists():
            raise FileExistsError(17, "there is a file of that name", str(public_path))
        # The mode is set as the file is made: at no moment can others read it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
        with open(public_path, "xb") as file:
            file.write(public)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be written ({error.strerror}); name another file") from None
    return public_path


def sign(policy: Path, key: Path, out: Path) -> Signature:
    """Write a policy file with a signature; one that it had is replaced.

    Args:
        policy: The policy, which the loader must accept.
        key: File of the private key.
        out: The file to write; may be the policy itself.

    Raises:
        ContractError: The policy is refused.
        InputError: The key cannot be read.
    """
    from robot.policy_file import PolicyFile

    private: Any = _private_key(key)
    PolicyFile(policy)
    unsigned, _ = split_signature(read_bounded(policy))
    public = private.public_key().public_bytes_raw()
    found = Signature(public, private.sign(_message(unsigned)))
    with atomic_file(out) as temporary:
        temporary.write_bytes(unsigned + _entry(found))
    return found


def _text(public_key: bytes, signature: bytes) -> str:
    return f"ed25519 {base64.b64encode(public_key).decode()} {base64.b64encode(signature).decode()}"


def _entry(found: Signature) -> bytes:
    # Protobuf messages that follow each other are one message, so an entry can be appended to a model's bytes.
    entry = onnx.StringStringEntryProto(key=SIGNATURE_KEY, value=_text(found.public_key, found.signature))
    return onnx.ModelProto(metadata_props=[entry]).SerializeToString()


def _message(unsigned: bytes) -> bytes:
    return _PREFIX + hashlib.sha256(unsigned).digest()


def _who(known: Mapping[bytes, str]) -> str:
    return " or ".join(sorted(known.values())[:5]) + (" or others" if len(known) > 5 else "")


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InputError("signatures need the package cryptography; install bodydouble[signing]") from None
    return ed25519


def _holds(ed25519: Any, found: Signature, unsigned: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    with contextlib.suppress(InvalidSignature, ValueError):
        ed25519.Ed25519PublicKey.from_public_bytes(found.public_key).verify(found.signature, _message(unsigned))
        return True
    return False


def _key_bytes(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > MAX_KEY_BYTES:
            raise InputError(f"{path}: no such file, or larger than {MAX_KEY_BYTES} bytes; expected a key in PEM")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _public_key(path: Path) -> bytes:
    ed25519, data = _library(), _key_bytes(path)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with contextlib.suppress(Exception):  # the library's own classes, one per kind of failure
        key: Any = load_pem_public_key(data)
        if isinstance(key, ed25519.Ed25519PublicKey):
            return key.public_bytes_raw()
    raise InputError(f"{path}: is no public Ed25519 key in PEM; make one with `bodydouble keygen`")


def _private_key(path: Path) -> Any:
    ed25519, data = _library(), _key_bytes(path)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with contextlib.suppress(Exception):
        key = load_pem_private_key(data, password=None)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key
    raise InputError(f"{path}: is no private Ed25519 key in PEM without a password; make one with `bodydouble keygen`")
