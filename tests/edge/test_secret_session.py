"""The encryption of the Secret Service, against published vectors and another computation of it."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from brokerd.dbus import secret_session
from brokerd.dbus.secret_session import AesTransport, KeyAgreement, PlainTransport


PRIME = secret_session._PRIME
PR_SET_MDWE = 65


def arctan_inverse(x, one):
    """Return arctan(1/x) * one."""
    term = total = one // x
    n, sign = 3, -1
    while term:
        term //= x * x
        total += sign * (term // n)
        n, sign = n + 2, -sign
    return total


def test_the_prime_is_that_of_the_second_oakley_group():
    """2^1024 - 2^960 - 1 + 2^64 * ([2^894 pi] + 129093): RFC 2409 section 6.2."""
    one = 1 << (894 + 64)  # 64 bits more than are looked at
    pi = 4 * (4 * arctan_inverse(5, one) - arctan_inverse(239, one))
    assert 2**1024 - 2**960 - 1 + 2**64 * ((pi >> 64) + 129093) == PRIME


def test_the_key_derivation_is_that_of_rfc_5869():
    """Its test case 3: neither salt nor info."""
    expected = "8da4e775a563c18f715f802a063c5a31"
    assert secret_session._derive(bytes([11]) * 22).hex() == expected


def test_the_cipher_is_that_of_nist(monkeypatch):
    """SP 800-38A, F.2.1 CBC-AES128: the first block; the second is our padding."""
    vector = bytes(range(16))
    monkeypatch.setattr(secret_session.secrets, "token_bytes", lambda n: vector[:n])
    transport = AesTransport(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    parameters, value = transport.seal(bytes.fromhex("6bc1bee22e409f96e93d7e117393172a"))
    assert parameters == vector
    assert value[:16].hex() == "7649abac8119b246cee98e9b12e9197d"
    assert len(value) == 32


def test_both_ends_agree_with_another_computation():
    """The service's end, with the library's key derivation; see also the real keyring's tests."""
    for _ in range(3):
        ours, private = KeyAgreement(), secrets.randbelow(PRIME)
        transport = ours.agree(pow(2, private, PRIME).to_bytes(128, "big"))
        shared = pow(int.from_bytes(ours.public, "big"), private, PRIME).to_bytes(128, "big")
        key = HKDF(SHA256(), 16, salt=None, info=b"").derive(shared)
        assert AesTransport(key).open(*transport.seal(b"canary")) == b"canary"


def test_a_shared_secret_with_leading_zeros_is_padded():
    """2 to the 5th to the 7th is 5 bytes: one exchange in 256 has a zero in front."""
    transport = KeyAgreement(7).agree(bytes([2**5]))
    padded = (2**35).to_bytes(128, "big")
    key = HKDF(SHA256(), 16, salt=None, info=b"").derive(padded)
    assert AesTransport(key).open(*transport.seal(b"canary")) == b"canary"


def test_our_own_key_is_new_each_time_and_in_range():
    keys = {KeyAgreement().public for _ in range(5)}
    assert len(keys) == 5
    assert all(1 < int.from_bytes(key, "big") < PRIME - 1 for key in keys)
    assert KeyAgreement(1).public == bytes([2])


@pytest.mark.parametrize("peer", [0, 1, PRIME - 1, PRIME, PRIME + 2, 2**4096])
def test_a_public_key_that_makes_a_guessable_secret_is_refused(peer):
    with pytest.raises(ValueError, match="out of range"):
        KeyAgreement().agree(peer.to_bytes(600, "big"))
    KeyAgreement().agree(bytes([2]))
    KeyAgreement().agree((PRIME - 2).to_bytes(128, "big"))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_what_was_sealed_is_opened_whatever_its_length(size):
    secret = bytes(range(256)) * 4
    for transport in (AesTransport(bytes(16)), PlainTransport()):
        assert transport.open(*transport.seal(secret[:size])) == secret[:size]


def test_the_same_secret_never_looks_the_same():
    transport = AesTransport(bytes(16))
    first, second = transport.seal(b"canary"), transport.seal(b"canary")
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize(
    ("vector_size", "value"),
    [(16, "0db0c45ad3f5ab18bd7ddbe9c9bd0b0d"), (16, 15 * "00"), (15, 16 * "00"), (16, "")],
    ids=["another key's", "cut", "its vector cut", "empty"],
)
def test_what_was_not_sealed_with_this_key_is_refused(vector_size, value):
    with pytest.raises(ValueError):
        AesTransport(bytes(16)).open(bytes(vector_size), bytes.fromhex(value))


def test_nothing_printable_shows_a_key():
    agreement = KeyAgreement(0xCA9A12)
    transport = agreement.agree(bytes([4]))
    assert str(0xCA9A12) not in repr(agreement)
    assert repr(transport._key) not in repr(transport)


UNDER_MDWE = f"""
import ctypes, mmap
assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) == 0
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    print("refused")
from brokerd.dbus.secret_session import KeyAgreement
transport = KeyAgreement().agree(bytes([4]))
assert transport.open(*transport.seal(b"x")) == b"x"
print("works")
"""


def test_it_works_where_no_memory_may_become_code():
    """The service has MemoryDenyWriteExecute=; prctl(PR_SET_MDWE) is the same (Linux 6.3)."""
    probe = "import ctypes; exit(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0)"
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("needs Linux 6.3 for prctl(PR_SET_MDWE)")
    done = subprocess.run(
        [sys.executable, "-c", UNDER_MDWE], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "works"]
