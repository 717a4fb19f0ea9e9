"""How a secret travels to and from the Secret Service: encrypted, where the service can.

Everybody who may watch the session bus sees every message on it. So both ends agree on a key that
nobody else can know (Secret Service API draft 0.2, "Transfer of Secrets"): a Diffie-Hellman
exchange in the second Oakley group (RFC 2409 §6.2), HKDF-SHA256 (RFC 5869) with neither salt nor
info, and AES-128-CBC with PKCS7 padding. A watcher who also answers in the service's place is not
kept out: nothing here proves who the service is.

The AES comes from the cryptography library, 6 MB of memory: it is imported at the first session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, Protocol


__all__ = [
    "DH_AES",
    "PLAIN",
    "AesTransport",
    "KeyAgreement",
    "PlainTransport",
    "Transport",
    "load_library",
]

DH_AES: Final = "dh-ietf1024-sha256-aes128-cbc-pkcs7"
"""The one encrypted algorithm of the specification, as `OpenSession` takes it."""
PLAIN: Final = "plain"

_PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)
_GENERATOR: Final = 2
_GROUP_BYTES: Final = 128
_PRIVATE_BITS: Final = 256
"""Ample for a group whose strength is 80 bits (NIST SP 800-57 part 1); more only takes longer."""
_KEY_BYTES: Final = 16
_IV_BYTES: Final = 16
_BLOCK_BITS: Final = 128


class Transport(Protocol):
    """What is done to a secret on its way over the bus."""

    def seal(self, secret: bytes) -> tuple[bytes, bytes]:
        """Return `parameters` and `value` of the specification's Secret structure."""
        ...

    def open(self, parameters: bytes, value: bytes) -> bytes:
        """Return the secret; ValueError when it was not sealed with this session's key."""
        ...


class PlainTransport:
    """Nothing is done to it: the algorithm `plain`."""

    def seal(self, secret: bytes) -> tuple[bytes, bytes]:
        """Return it as it is."""
        return b"", secret

    def open(self, parameters: bytes, value: bytes) -> bytes:  # noqa: ARG002 - plain has none
        """Return it as it is."""
        return value


class AesTransport:
    """AES-128-CBC with a fresh initialization vector for each secret."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, secret: bytes) -> tuple[bytes, bytes]:
        """Encrypt it."""
        from cryptography.hazmat.primitives.ciphers import (  # noqa: PLC0415 - see the docstring
            Cipher,
            algorithms,
            modes,
        )
        from cryptography.hazmat.primitives.padding import PKCS7  # noqa: PLC0415

        vector = secrets.token_bytes(_IV_BYTES)
        pad = PKCS7(_BLOCK_BITS).padder()
        padded = pad.update(secret) + pad.finalize()
        encrypt = Cipher(algorithms.AES(self._key), modes.CBC(vector)).encryptor()
        return vector, encrypt.update(padded) + encrypt.finalize()

    def open(self, parameters: bytes, value: bytes) -> bytes:
        """Decrypt it; `parameters` is the initialization vector."""
        from cryptography.hazmat.primitives.ciphers import (  # noqa: PLC0415
            Cipher,
            algorithms,
            modes,
        )
        from cryptography.hazmat.primitives.padding import PKCS7  # noqa: PLC0415

        decrypt = Cipher(algorithms.AES(self._key), modes.CBC(parameters)).decryptor()
        padded = decrypt.update(value) + decrypt.finalize()
        unpad = PKCS7(_BLOCK_BITS).unpadder()
        return unpad.update(padded) + unpad.finalize()


class KeyAgreement:
    """Our half of one exchange; made anew for each session."""

    def __init__(self, private: int | None = None) -> None:
        """`private` is given by tests only."""
        self._private = private or secrets.randbits(_PRIVATE_BITS) | 1 << _PRIVATE_BITS - 1

    @property
    def public(self) -> bytes:
        """What is sent to the service: big-endian, without leading zeros, as libsecret does."""
        number = pow(_GENERATOR, self._private, _PRIME)
        return number.to_bytes((number.bit_length() + 7) // 8, "big")

    def agree(self, peer: bytes) -> AesTransport:
        """Take the service's public key; ValueError when it is none that keeps a secret."""
        number = int.from_bytes(peer, "big")
        if not 1 < number < _PRIME - 1:  # the others make a shared secret that anybody can guess
            raise ValueError("its public key is out of range")
        shared = pow(number, self._private, _PRIME)
        return AesTransport(_derive(shared.to_bytes(_GROUP_BYTES, "big")))


def load_library() -> None:
    """Have what AesTransport needs, and see it work.

    Raises ImportError without it, RuntimeError where it finds no OpenSSL to its liking: that shows
    only when something is encrypted.
    """
    AesTransport(bytes(_KEY_BYTES)).seal(b"")


def _derive(shared: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869 §2) without salt and info; one block is longer than the key."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), shared, "sha256")
    return hmac.digest(extracted, b"\x01", "sha256")[:_KEY_BYTES]
