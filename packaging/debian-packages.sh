# Sourced by the scripts beside it: which Debian packages are needed, and how they get installed.
# shellcheck shell=bash

# PyGObject, the D-Bus and journal bindings and cryptography come from Debian: built against its own libraries.
RUN_PACKAGES=(python3-venv python3-gi python3-pydbus python3-systemd python3-cryptography dbus-user-session
  ca-certificates)
# What the tests drive besides: a real Secret Service, a real MessagePack-RPC client, a bus of their own, the compiler
# of the benchmark's load generator, and an HTTP client; strace tells whether real clients turn to other machines;
# the smallest of Chromium's packages, for pages that try the HTTP door: no window, 300 MB on the disk; git and the shells
# that docs/shell.md has examples for.
TEST_PACKAGES=(gnome-keyring libsecret-tools neovim dbus systemd util-linux procps gcc libc6-dev curl strace
  chromium-headless-shell git jq zsh fish)

step() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || die "needs root for '$*': install sudo or run that as root first"
  sudo "$@"
}

# may_be_root: whether as_root would ask nobody for a password
may_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# install_packages NAME...: those of them that are missing, quietly, without a question
install_packages() {
  local name log missing=()
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "needs these packages (Debian's names), install them first: ${missing[*]}"
  step "installing Debian packages: ${missing[*]}"
  log=$(mktemp)
  if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
         as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
           install --yes --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
    tail -20 "$log" >&2; rm -f "$log"
    die "apt-get failed; mend it and run this again: sudo apt-get install ${missing[*]}"
  fi
  rm -f "$log"
}

# make_venv DIR: of Debian's own Python, which sees Debian's bindings. Another python3 on PATH would not.
make_venv() {
  local python=${PYTHON:-/usr/bin/python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$python is older than 3.11; name a newer one: PYTHON=/usr/bin/python3.11 $0"
  "$python" -c 'import gi, pydbus, systemd.daemon' 2>/dev/null ||
    die "$python does not see Debian's gi, pydbus and systemd modules; use the system's: PYTHON=/usr/bin/python3 $0"
  if [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then return 0; fi
  step "making a virtual environment in $1"
  "$python" -m venv --clear --system-site-packages "$1"
}

# pip_install VENV ARG...: quietly, all of its output when it fails
pip_install() {
  local venv=$1; shift
  step "installing with pip: $*"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" ||
    die "pip failed (see above); check the network and run this again"
}
