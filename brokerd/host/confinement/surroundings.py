"""What this process depends on before it gives up the rest: modules, certificates, folders.

All paths are real ones: a rule holds for what a link leads to, and the home folder must be known
by any of its names.
"""

from __future__ import annotations

import os
import pwd
import ssl
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from brokerd.core.reach import Surroundings


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


__all__ = ["surroundings"]

_PACKAGES: Final = ("brokerd", "copilot_broker")
"""Ours: an editable installation has them outside of `sys.path`."""

_NAME_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime")


def surroundings(
    environ: Mapping[str, str],
    *,
    config_file: Path,
    state_dir: Path,
    socket_dir: Path | None,
    run_ports: tuple[int, ...] = (),
) -> Surroundings:
    """Look around; `socket_dir` is where we bind ourselves, None where that was done for us.

    `run_ports` are those of runs that are under way.
    """
    trusted = ssl.get_default_verify_paths()
    authorities = (
        trusted.cafile,
        trusted.capath,
        trusted.openssl_cafile,
        trusted.openssl_capath,
    )
    return Surroundings(
        home=_real(environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir),
        state_dir=_real(state_dir),
        config_file=f"{_real(config_file.absolute().parent)}/{config_file.name}",
        config_target=_real(config_file),
        socket_dir=None if socket_dir is None else _real(socket_dir),
        code=tuple(dict.fromkeys(_code())),
        authorities=tuple(_real(path) for path in authorities if path),
        run_ports=run_ports,
        names=tuple(_real(path) for path in _NAME_FILES),
    )


def _code() -> list[str]:
    found = [path for path in sys.path if path]  # "" is wherever we were started
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        found += [f"{prefix}/lib", f"{prefix}/lib64"]  # what modules are linked with
    for package in _PACKAGES:
        with suppress(ImportError, ValueError):
            spec = find_spec(package)
            found += list(spec.submodule_search_locations or ()) if spec else []
    return [_real(path) for path in found]


def _real(path: str | Path) -> str:
    return os.path.realpath(path)
