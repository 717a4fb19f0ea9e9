"""The configuration: defaults, every key, and mistakes that name file, line and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brokerd.config import (
    AccountSettings,
    Config,
    ConfigError,
    IdentitySettings,
    LogSettings,
    NetworkSettings,
    StoreSettings,
    UrlSettings,
    load,
    parse,
    where,
)
from brokerd.errors import ErrorClass, PermanentError


EXAMPLE = Path(__file__).parents[2] / "packaging" / "copilot-broker.toml"
FILE = Path("/etc/x.toml")


def read(text: str) -> Config:
    return parse(text, FILE)


def complaint(text: str) -> tuple[int | None, str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.line, caught.value.failure.message


def test_nothing_is_the_defaults():
    assert read("") == Config()
    assert Config().accounts == {"default": AccountSettings()}
    assert AccountSettings() == AccountSettings(
        "github.com", "vscode", "", "auto", "auto", "login"
    )


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=[\w\[])", "", text, flags=re.MULTILINE)


def test_the_example_is_the_defaults_as_it_stands():
    assert read(EXAMPLE.read_text()) == Config()


def test_the_example_is_the_defaults_with_every_line_uncommented():
    text = uncommented(EXAMPLE.read_text())
    assert read(text) == Config()
    assert "\n[network]\nproxy" in text  # it did uncomment


def test_the_example_names_every_key():
    text = uncommented(EXAMPLE.read_text())
    keys = {
        "accounts.default": AccountSettings,
        "urls": UrlSettings,
        "store": StoreSettings,
        "network": NetworkSettings,
        "identity": IdentitySettings,
        "log": LogSettings,
    }
    assert re.findall(r"^\[(.*)\]$", text, re.MULTILINE) == list(keys)
    for table, settings in keys.items():
        body = text.split(f"[{table}]\n")[1].split("\n[")[0]
        assert re.findall(r"^(\w+) =", body, re.MULTILINE) == list(settings.__dataclass_fields__)


def test_every_key_is_read(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.touch()
    config = read(f"""
        [accounts.work]
        host = "Octo.ghe.com"
        client_id = "Iv1.0123456789abcdef"
        scope = "read:user user:email"
        mode = "direct"
        plan = "business"
        source = "login"
        [urls]
        login = "http://127.0.0.1:8001/"
        api = "http://[::1]:8001"
        copilot = "http://localhost:1"
        completions = "https://proxy.example.org"
        [store]
        kind = "file"
        [network]
        proxy = "http://me:pw@proxy:3128"
        ca_file = "{ca}"
        [identity]
        user_agent = "me/1 (x; y)"
        editor_version = ""
        editor_plugin_version = "plugin/{{version}}"
        integration_id = "copilot-developer-cli"
        copilot_api_version = "2026-06-01"
        exchange_api_version = "2026-01-09"
        [log]
        level = "debug"
        """)
    work = AccountSettings(
        "octo.ghe.com", "Iv1.0123456789abcdef", "read:user user:email", "direct", "business"
    )
    assert config == Config(
        accounts={"default": AccountSettings(), "work": work},
        urls=UrlSettings(
            "http://127.0.0.1:8001",
            "http://[::1]:8001",
            "http://localhost:1",
            "https://proxy.example.org",
        ),
        store=StoreSettings("file"),
        network=NetworkSettings("http://me:pw@proxy:3128", ca),
        identity=IdentitySettings(
            "me/1 (x; y)",
            "",
            "plugin/{version}",
            "copilot-developer-cli",
            "2026-06-01",
            "2026-01-09",
        ),
        log=LogSettings("debug"),
    )
    assert config.account("work") is config.accounts["work"]
    assert config.account("other") == AccountSettings()
    assert "pw" not in repr(config)


def test_a_mistake_is_a_permanent_usage_error():
    with pytest.raises(PermanentError) as caught:
        read("x = 1")
    assert caught.value.failure.error_class is ErrorClass.USAGE
    assert caught.value.failure.code == "config_invalid"
    assert str(caught.value).endswith("systemctl --user reload-or-restart copilot-broker")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[http\n", 1, ["not TOML"]),
        ("\n\n[log]\nlevel = debug\n", 4, ["not TOML"]),
        ("[log]\nlevel = 'a'\nlevel = 'b'\n", 3, ["not TOML"]),
        ("[log]\nlevel = '''\nx", 3, ["not TOML"]),
        ("# a\n[acounts.default]\n", 2, ["table acounts", "did you mean accounts?"]),
        ("[log]\n\nlevle = 'info'\n", 3, ["log.levle", "did you mean level?", "here: level"]),
        ("[log]\nzzz = 'info'\n", 2, ["unknown key log.zzz; allowed here: level"]),
        ("level = 'info'\n", 1, ["unknown key level"]),
        ("log = 'info'\n", 1, ["log must be a table: [log]"]),
        ("accounts.default = 1\n", 1, ["must be a table: [accounts.default]"]),
        ("[http]\ntcp = '127.0.0.1:4141'\n", 1, ["unknown table http"]),
        ("[log]\nlevel = 1\n", 2, ["log.level must be a string"]),
        ("[log]\nlevel = 'inf'\n", 2, ["one of debug, info, warning, error", "mean info?"]),
        ("[store]\nkind = 'disk'\n", 2, ["store.kind must be one of auto, secret-service,"]),
        ("[accounts.a]\nmode = 'x'\n", 2, ["accounts.a.mode", "one of auto, exchange"]),
        ("accounts.a.plan = 'x'\n", 1, ["one of auto, individual, business, enterprise"]),
        ("accounts.a.scope = 'a  b'\n", 1, ["scopes separated by single spaces"]),
        ("accounts.a.scope = 'a\"b'\n", 1, ["scopes separated"]),
        ("accounts.a.client_id = 'gho_canary'\n", 1, ["preset", "not a token"]),
        ("accounts = { a = { source = 'x' } }\n", 1, ["one of login"]),
        ("[accounts.a]\nmode = 'auto'\n[accounts.b]\nmode = '''\nx\n'''\n", 4, ["b.mode"]),
        ("[accounts.'a b']\n", 1, ["account's name"]),
        ("[accounts.a]\nhost = 'https://github.com'\n", 2, ["github.com or NAME.ghe.com"]),
        ("[accounts.a]\nhost = 'github.com.evil.org'\n", 2, ["accounts.a.host"]),
        ("[accounts.a]\nclient_id = ''\n", 2, ["preset"]),
        ("[urls]\napi = 'http://example.org'\n", 2, ["urls.api must be an origin"]),
        ("[urls]\napi = 'https://example.org/api'\n", 2, ["without path"]),
        ("[urls]\napi = 'https://u@example.org'\n", 2, ["origin"]),
        ("[urls]\napi = 'https://'\n", 2, ["origin"]),
        ("[urls]\napi = 'https://h:99999'\n", 2, ["origin"]),
        ("[urls]\napi = 'http://127.0.0.1.evil.org'\n", 2, ["loopback"]),
        ("[network]\nproxy = 'socks5://h'\n", 2, ["network.proxy must be http://"]),
        ("[network]\nproxy = 'http://h:x'\n", 2, ["network.proxy"]),
        ("[network]\nca_file = 'ca.pem'\n", 2, ["network.ca_file must be the absolute path"]),
        ("[network]\nca_file = '/no/such.pem'\n", 2, ["existing PEM file"]),
        ("[identity]\nuser_agent = ' a'\n", 2, ["identity.user_agent", "visible ASCII"]),
        ('[identity]\neditor_version = "a\\r\\nb: c"\n', 2, ["visible ASCII"]),
        ("[identity]\neditor_version = 'é'\n", 2, ["visible ASCII"]),
        ("x = " + "[" * 5000 + "]" * 5000, None, ["nested too deep"]),
    ],
)
def test_mistakes(text, line, words):
    found, message = complaint(text)
    assert found == line
    place = "/etc/x.toml: " if line is None else f"/etc/x.toml, line {line}: "
    assert message.startswith(place)
    for word in words:
        assert word in message


def test_the_line_is_right_with_windows_line_ends():
    assert complaint("[log]\r\n\r\nlevel = 'x'\r\n")[0] == 3


def test_a_value_is_never_echoed():
    # Somebody pastes a token where a client id belongs, or mistypes the scheme of a proxy.
    assert "canary" not in complaint("[accounts.a]\nclient_id = 'gho canary'\n")[1]
    assert "canary" not in complaint("[network]\nproxy = 'htp://u:canary@h'\n")[1]


def test_where():
    assert where({"COPILOT_BROKER_CONFIG": "/a/b.toml", "HOME": "/h"}) == Path("/a/b.toml")
    assert where({"XDG_CONFIG_HOME": "/x"}) == Path("/x/copilot-broker/config.toml")
    home = Path("/h/.config/copilot-broker/config.toml")
    assert where({"HOME": "/h"}) == home
    assert where({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}) == home
    assert where({}).is_absolute()


def test_no_file_is_fine_unless_somebody_named_it(tmp_path):
    assert load(None, {"HOME": str(tmp_path)}) == Config()
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match="no such file"):
        load(missing, {})
    with pytest.raises(ConfigError, match="no such file"):
        load(None, {"COPILOT_BROKER_CONFIG": str(missing)})


def test_load_reads_the_named_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[log]\nlevel = 'debug'\n")
    assert load(path, {}).log.level == "debug"
    path.write_text("[log]\nlevel = 'x'\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}, line 2: log.level must be")):
        load(None, {"COPILOT_BROKER_CONFIG": str(path)})


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"[log]\n\xff\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        load(path, {})
    path.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match="larger than 65536 bytes"):
        load(path, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_a_file_that_everybody_may_write_is_refused(tmp_path):
    path = tmp_path / "config.toml"
    path.touch()
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="chmod o-w"):
        load(path, {})
