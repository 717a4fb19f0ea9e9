"""`copilot-cred get`: print a token, in about the time that the interpreter takes to start.

It runs in shell prompts, build steps and inner loops, so it pays for as few imports as it can: its
options are parsed by hand, one request of fixed bytes goes out (`wire/mini.py`), one answer comes
back. It never prompts, never starts a daemon and never hangs.
"""

from __future__ import annotations

import sys
import time

from copilot_broker.cli.report import PROGRAM, Refusal, error_format, note
from copilot_broker.wire import mini
from copilot_broker.wire.address import START_HINT, NoBroker, connect_once, socket_path


TYPE_CHECKING = False  # importing `typing` costs more than the rest of this file
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any


__all__ = ["get"]

HELP = """\
usage: copilot-cred get [--format FORMAT] [-n] [--min-valid SECONDS]
                        [--min-valid-strict] [--account NAME]
                        [--reject TOKEN_ID] [--error-format human|json]
       copilot-cred get --model GLOB [--model GLOB]... [--ttl 1h]
                        [--label TEXT] [--account NAME] [--format FORMAT] [-n]

Print a Copilot token that is valid now and for some time to come. Never
prompts, never starts the broker, answers within 5 seconds.

With --model, print a key for the broker's HTTP door instead: good for these
models only, for an hour, and until the broker stops. For tools that run a
command for their API key; asked again, it is the same key for half of its life.

options:
  --format raw          the token and a newline (default)
  --format json         one line: version, token, token_type, expires_at (Unix
                        seconds, UTC), expires_in (seconds), api_base, headers,
                        account, token_id, clamped, completions_base (where
                        fill-in-the-middle is asked) and cooldown_until (Unix
                        seconds, UTC: Copilot wants no request of this account
                        before that; null: it does)
  --format header       Authorization: Bearer ...
  --format curl-config  for curl --config -: that and the headers Copilot wants
  --format env          COPILOT_TOKEN, COPILOT_API_BASE and
                        COPILOT_TOKEN_EXPIRES_AT as quoted shell assignments
  --prefix NAME         begin them with this instead of COPILOT_
  --shell sh|fish       whose assignments (default sh)
  --format git-credential
                        attributes as git writes them; git itself is better off
                        with: copilot-cred git-credential
  --format k8s          an ExecCredential for Kubernetes clients
  -n                    no newline at the end
  --min-valid SECONDS   the token must live longer than this (default 60); the
                        broker refreshes it when it would not. If no token can
                        live that long, the longest one is printed with a note
                        on stderr, and `clamped` is true
  --min-valid-strict    exit 8 instead of that
  --account NAME        instead of the default account
  --reject TOKEN_ID     upstream refused the token with this id (8 hex digits,
                        from --format json): refresh if it is still the current
                        one. The token itself does not belong on a command line,
                        where every user of the machine can read it
  --model GLOB          a key, for models that match; may be given several times
  --ttl DURATION        how long the key holds: 15min, 1h (default), 24h at most
  --label TEXT          what the key is called in copilot-cred key list
  --error-format json   errors as one line of JSON on stderr
  -h, --help            this text

An account that uses its GitHub login directly has no token to hand out: its
completions go through the broker (copilot-cred chat, copilot-cred api).

exit codes:
  0 ok   1 internal   2 usage   3 no broker   4 login required   5 denied
  6 locked   7 temporary, try again   8 --min-valid-strict cannot be met
  9 no place to keep the login

examples:
  TOKEN=$(copilot-cred get) || exit
  copilot-cred get --format curl-config |
    curl --fail-with-body -sS -K - https://api.githubcopilot.com/models
  eval "$(copilot-cred get --format env --min-valid 600)"
  copilot-cred get --model 'claude-*' --label claude
"""

USAGE = 2
UNREACHABLE = 3
TEMPORARY = 7
MIN_VALID = 8
INTERNAL = 1
"""Of `wire.codes.ErrorClass`, which would cost the import of `enum`; a test keeps them equal."""

DEADLINE = 5.0
"""Seconds for everything; the broker answers or explains itself within 4."""
BUSY_PAUSE = 0.01
"""Seconds between two tries to connect while the broker's queue is full."""
TRIES = 3
"""How often to ask when a broker that restarts hangs up."""
CHUNK = 16 * 1024
DEFAULT_MIN_VALID = "60"
TOKEN_ID_DIGITS = 8
JSON_VERSION = 1
"""Of `--format json`; keys are only ever added to it."""
JSON_KEYS = (
    "token",
    "token_type",
    "expires_at",
    "expires_in",
    "api_base",
    "headers",
    "account",
    "token_id",
    "clamped",
    "completions_base",
    "cooldown_until",
)
FLAGS = ("--min-valid-strict", "-n")
VALUED = (
    "--format",
    "--prefix",
    "--shell",
    "--min-valid",
    "--account",
    "--reject",
    "--model",
    "--ttl",
    "--label",
    "--error-format",
)
FORMATS = ("raw", "json", "header", "env", "curl-config", "git-credential", "k8s")
SHELLS = ("sh", "fish")


def get(argv: Sequence[str]) -> int:
    """Carry out `copilot-cred get` with these options."""
    options = parse(argv)
    if sys.stdout is None:
        raise Refusal(USAGE, "no_stdout", "stdout is closed", f"run it again as: {PROGRAM} get")
    if options is None:
        sys.stdout.write(HELP)
        return 0
    if "--model" in options:
        from copilot_broker.cli.minted import rendered_key  # noqa: PLC0415 - seldom, and heavy

        _write(rendered_key(options), options)
        return 0
    min_valid = seconds(options.get("--min-valid", DEFAULT_MIN_VALID))
    request = mini.encode_get(min_valid, options.get("--account"), options.get("--reject"))
    lease = ask(request)
    if lease.get("clamped"):
        if "--min-valid-strict" in options:
            raise _too_short(lease, min_valid)
        if error_format(argv) == "human":
            note(f"{_how_long(lease)}; more than {min_valid:.0f} s was asked for")
    _warn_of_pause(lease.get("cooldown_until"))
    _write(rendered(lease, options), options)
    return 0


def _write(text: str, options: dict[str, str]) -> None:
    sys.stdout.write(text[:-1] if "-n" in options else text)
    sys.stdout.flush()


def parse(argv: Sequence[str]) -> dict[str, str] | None:
    """Return the options by name, None when help is wanted. Raises Refusal (usage)."""
    options: dict[str, str] = {}
    words = list(argv)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name in ("-h", "--help"):
            return None
        if name in FLAGS and not equals:
            options[name] = ""
            continue
        if name not in VALUED:
            raise _usage(f"{name if name[:1] == '-' else 'another word'} is not an option of get")
        if not equals:
            if not words:
                raise _usage(f"{name} needs a value")
            value = words.pop(0)
        if name == "--model" and name in options:  # it may be given several times
            value = f"{options[name]}\n{value}"
        options[name] = value
    if "--model" not in options and ("--ttl" in options or "--label" in options):
        raise _usage("--ttl and --label belong to --model")
    if options.get("--format", "raw") not in FORMATS:
        raise _usage(f"--format is one of {', '.join(FORMATS)}")
    _check_env(options)
    if options.get("--error-format", "human") not in ("human", "json"):
        raise _usage("--error-format is human or json")
    account = options.get("--account", "default")
    if not account or not account.isprintable():
        raise _usage("--account takes the name of an account")
    token_id = options.get("--reject")
    if token_id is not None and not _is_token_id(token_id):
        raise _usage("--reject takes a token's id (8 hex digits), never the token itself")
    return options


def _check_env(options: dict[str, str]) -> None:
    """Raise Refusal (usage) when what only `env` has is given elsewhere, or is no good."""
    if options.get("--format") != "env" and ("--prefix" in options or "--shell" in options):
        raise _usage("--prefix and --shell belong to --format env")
    prefix = options.get("--prefix", "_")
    if not (prefix.isascii() and prefix.isidentifier()):
        raise _usage("--prefix takes the beginning of a variable's name")
    if options.get("--shell", "sh") not in SHELLS:
        raise _usage(f"--shell is one of {', '.join(SHELLS)}")


def seconds(text: str) -> float:
    """Return the number of seconds meant. Raises Refusal (usage)."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < float("inf"):  # NaN compares false
        raise _usage("--min-valid takes seconds, 0 or more")
    return number


def ask(request: bytes) -> dict[str, Any]:
    """Send the request to the broker and return its result. Raises Refusal."""
    deadline = time.monotonic() + DEADLINE
    try:
        path = socket_path()
        for _ in range(TRIES):
            answer = _exchange(path, request, deadline)
            if not _is_leaving(answer):
                break
    except NoBroker as error:
        raise Refusal(UNREACHABLE, error.code, error.message, error.hint) from None
    except TimeoutError:
        hint = "see what it is doing: systemctl --user status copilot-broker"
        raise Refusal(TEMPORARY, "timeout", "the broker did not answer in time", hint) from None
    if answer is None:
        message = "the broker hung up before it answered"
        raise Refusal(UNREACHABLE, "connection_lost", message, START_HINT)
    refusal, result = answer
    if refusal is not None:
        raise _refused(refusal)
    if not isinstance(result, dict) or not _is_printable(result.get("token")):
        raise _misunderstood()
    return result


def _is_leaving(answer: tuple[object, object] | None) -> bool:
    """Whether a broker that is about to end has sent us away: its successor will answer."""
    error = None if answer is None else answer[0]
    return answer is None or (isinstance(error, dict) and error.get("code") == "shutting_down")


def _connect(path: str, deadline: float) -> _socket.socket:
    while True:
        try:
            return connect_once(path)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(BUSY_PAUSE)


def _exchange(path: str, request: bytes, deadline: float) -> tuple[object, object] | None:
    """Connect, send, receive; None when the broker closed before it had answered."""
    sock = _connect(path, deadline)
    received = b""
    try:
        sock.settimeout(_left(deadline))
        sock.sendall(request)
        while (answer := mini.decode_response(received)) is None:
            sock.settimeout(_left(deadline))
            chunk = sock.recv(CHUNK)
            if not chunk:
                return None
            received += chunk
    except (BrokenPipeError, ConnectionResetError):
        return None
    except ValueError:
        raise _misunderstood() from None
    finally:
        sock.close()
    return answer


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())  # 0 would mean non-blocking


def as_json(lease: dict[str, Any]) -> str:
    """One line with the keys of `JSON_KEYS` and the version of this format."""
    import json  # noqa: PLC0415  # a third of the start time of those who do not ask for it

    fields = {"version": JSON_VERSION, **{key: lease.get(key) for key in JSON_KEYS}}
    return json.dumps(fields) + "\n"


def rendered(lease: dict[str, Any], options: dict[str, str]) -> str:
    """Return the lease in the format asked for; what other programs read has its own file."""
    name = options.get("--format", "raw")
    if name == "raw":
        return f"{lease['token']}\n"
    if name == "header":
        return f"Authorization: Bearer {lease['token']}\n"
    if name == "json":
        return as_json(lease)
    from copilot_broker.cli import lease_formats  # noqa: PLC0415  # as `json` above

    return lease_formats.FORMATS[name](lease, options)


def _warn_of_pause(until: object) -> None:
    """Tell a person, and only a person, that a request with this token would come too soon."""
    if not isinstance(until, int | float) or until <= time.time():
        return
    if sys.stderr is not None and sys.stderr.isatty():
        from copilot_broker.cli.times import moment  # noqa: PLC0415

        when = moment(until)
        note(f"Copilot asked this account to pause until {when}; why: {PROGRAM} status")


def _how_long(lease: dict[str, Any]) -> str:
    return f"the token lives {lease.get('expires_in', 0):.0f} s"


def _is_printable(token: object) -> bool:
    """Whether it can go on one line, in a header: no end of line, nothing beyond ASCII."""
    return isinstance(token, str) and token != "" and token.isascii() and token.isprintable()


def _is_token_id(text: str) -> bool:
    return len(text) == TOKEN_ID_DIGITS and all(c in "0123456789abcdef" for c in text)


def _refused(error: object) -> Refusal:
    return Refusal.from_map(error) or _misunderstood()


def _too_short(lease: dict[str, Any], min_valid: float) -> Refusal:
    message = f"{_how_long(lease)}, and none lives longer than {min_valid:.0f} s"
    hint = f"take what there is: {PROGRAM} get --min-valid {lease.get('expires_in', 0) / 2:.0f}"
    return Refusal(MIN_VALID, "min_valid_unsatisfiable", message, hint)


def _misunderstood() -> Refusal:
    message = "what answers on the socket does not speak as copilot-broker does"
    hint = "run the installed broker: systemctl --user restart copilot-broker"
    return Refusal(INTERNAL, "protocol", message, hint)


def _usage(message: str) -> Refusal:
    return Refusal(USAGE, "usage", message, f"see how it is called: {PROGRAM} get --help")
