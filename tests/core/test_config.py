"""The configuration: defaults, every key, and mistakes that name file, line and what is allowed."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.config import (
    AccountSettings,
    Config,
    ConfigError,
    HttpSettings,
    IdentitySettings,
    LogSettings,
    ModelSettings,
    NetworkSettings,
    StoreSettings,
    UrlSettings,
    UsageSettings,
    load,
    parse,
    where,
)
from brokerd.config.tables import ALIASES_MAX, GRANTS_MAX
from brokerd.core.access import Rule, Scope
from brokerd.core.access.rules import WHAT, WHO
from brokerd.core.repairs import NAMES
from brokerd.core.toml_lines import lines_of_tables
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
    assert replace(read(text), grants=()) == Config()  # there is no default rule
    assert "\n[network]\nproxy" in text  # it did uncomment


def test_the_example_shows_every_key_of_a_rule():
    rules = read(uncommented(EXAMPLE.read_text())).grants
    assert {key for rule in rules for key in (*rule.who, *rule.what)} == {*WHO, *WHAT}
    told = EXAMPLE.read_text().partition("Who may ask for what")[2].partition("[[grant]]\n")[0]
    assert [key for key in (*WHO, *WHAT) if not re.search(rf"\b{key}\b", told)] == []


def test_the_example_names_every_key():
    text = uncommented(EXAMPLE.read_text()).partition("\n[[grant]]\n")[0]
    keys = {
        "accounts.default": AccountSettings,
        "urls": UrlSettings,
        "store": StoreSettings,
        "network": NetworkSettings,
        "identity": IdentitySettings,
        "http": HttpSettings,
        "http.repairs": None,
        "models.aliases": None,
        "usage": UsageSettings,
        "log": LogSettings,
    }
    assert re.findall(r"^\[(.*)\]$", text, re.MULTILINE) == list(keys)
    for table, settings in keys.items():
        body = text.split(f"\n[{table}]\n")[1].split("\n[")[0]
        found = re.findall(r"^(\w+) =", body, re.MULTILINE)
        if table == "http.repairs":
            assert found == list(NAMES)
        elif settings is not None:
            names = [name for name in settings.__dataclass_fields__ if name != "repairs"]
            assert found == names


def test_the_example_shows_names_of_models():
    text = re.sub(r"^#(?=\")", "", uncommented(EXAMPLE.read_text()), flags=re.MULTILINE)
    aliases = read(text).models.aliases
    assert list(aliases) == ["claude-opus-*", "fast"]


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
        [http]
        tcp = "[0:0:0:0::1]:4141"
        keepalive = 0
        [http.repairs]
        {NAMES[0]} = false
        [models.aliases]
        "z-*" = "gpt-5-mini"
        a = "claude-opus-4.8"
        [log]
        level = "debug"
        [[grant]]
        listener = "agents"
        uid = 1001
        gid = 100
        unit = "app-*.scope"
        label = "snap.*"
        sandbox = "any"
        scope = "complete"
        models = ["gpt-*", "o4"]
        accounts = ["work"]
        requests_per_minute = 30
        [[grant]]
        scope = "token"
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
        http=HttpSettings("[::1]:4141", 0, dict.fromkeys(NAMES, True) | {NAMES[0]: False}),
        models=ModelSettings({"z-*": "gpt-5-mini", "a": "claude-opus-4.8"}),
        log=LogSettings("debug"),
        grants=(
            Rule(
                listener="agents",
                uid=1001,
                gid=100,
                unit="app-*.scope",
                label="snap.*",
                sandbox="any",
                scope=Scope.COMPLETE,
                models=("gpt-*", "o4"),
                accounts=("work",),
                requests_per_minute=30,
            ),
            Rule(scope=Scope.TOKEN),
        ),
    )
    assert list(config.models.aliases) == ["z-*", "a"]  # as in the file
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
        ("[htp]\ntcp = '127.0.0.1:4141'\n", 1, ["unknown table htp; did you mean http?"]),
        ("http = 1\n", 1, ["http must be a table: [http]"]),
        ("[http]\ntpc = ''\n", 2, ["http.tpc; did you mean tcp?", "tcp, keepalive, repairs"]),
        ("[http]\ntcp = 4141\n", 2, ['http.tcp must be a string in "quotes"']),
        ("[http]\n\ntcp = 'localhost:4141'\n", 3, ["http.tcp must be a loopback", "a name"]),
        ("[http]\ntcp = '0.0.0.0:4141'\n", 2, ["the network must not reach it"]),
        ("[http]\nkeepalive = -1\n", 2, ["http.keepalive must be a number from 0 to 3600"]),
        ("[http]\nkeepalive = true\n", 2, ["in seconds, 0 for never"]),
        ("[http]\nkeepalive = 1.5\n", 2, ["http.keepalive must be a number"]),
        ("[http]\nkeepalive = '15'\n", 2, ["http.keepalive must be a number"]),
        ("[http]\nkeepalive = 3601\n", 2, ["http.keepalive must be a number"]),
        ("[http]\nrepairs = true\n", 2, ["must be a table: [http.repairs]"]),
        (
            "[http.repairs]\njson_eror = true\n",
            2,
            ["key http.repairs.json_eror; did you mean json_errors?"],
        ),
        ("[http]\nrepairs.json_errors = 1\n", 2, ["http.repairs.json_errors must be true or f"]),
        ("[http.repairs]\njson_errors = 'no'\n", 2, ["true or false, without quotes"]),
        ("models = 1\n", 1, ["models must be a table: [models]"]),
        ("[models]\nalias = {}\n", 2, ["models.alias; did you mean aliases?", "here: aliases"]),
        ("[models]\naliases = ['a']\n", 2, ["must be a table: [models.aliases]"]),
        ("[models.aliases]\na = 1\n", 2, ['models.aliases.a must be a string in "quotes"']),
        ("[models.aliases]\na = ''\n", 2, ["models.aliases.a must be the id", "copilot-cred mo"]),
        ("[models.aliases]\na = 'gpt-*'\n", 2, ["no pattern"]),
        ("[models.aliases]\na = 'b'\n'c d' = 'b'\n", 3, ["a name in models.aliases must be 1 to"]),
        ("[models.aliases]\n\ngpt-4.1 = 'b'\n", 3, ["models.aliases.gpt-4: a name with a dot"]),
        (
            "[models.aliases]\n" + "".join(f"m{n} = 'b'\n" for n in range(ALIASES_MAX + 1)),
            ALIASES_MAX + 2,
            ["more than 100 names in [models.aliases]"],
        ),
        ("[log]\nlevel = 1\n", 2, ["log.level must be a string"]),
        ("[log]\nlevel = 'inf'\n", 2, ["one of debug, info, warning, error", "mean info?"]),
        ("[store]\nkind = 'disk'\n", 2, ["store.kind must be one of auto, secret-service,"]),
        ("[accounts.a]\nmode = 'x'\n", 2, ["accounts.a.mode", "one of auto, exchange"]),
        ("accounts.a.plan = 'x'\n", 1, ["one of auto, individual, business, enterprise"]),
        ("accounts.a.scope = 'a  b'\n", 1, ["scopes separated by single spaces"]),
        ("accounts.a.scope = 'a\"b'\n", 1, ["scopes separated"]),
        ("accounts.a.client_id = 'gho_canary'\n", 1, ["preset", "not a token"]),
        ("accounts = { a = { source = 'x' } }\n", 1, ["one of login, environment, credential"]),
        (
            "[accounts.a]\nsource = 'environment'\n[accounts.b]\nsource = 'environment'\n",
            4,
            ["b.source", "only one account", "accounts.a has it"],
        ),
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
        ("grant = 1\n", 1, ["grant must be a list of tables: [[grant]]"]),
        ("[grant]\nscope = 'status'\n", 1, ["grant must be a list of tables: [[grant]]"]),
        ("grant = [1]\n", 1, ["grant must be a list of tables: [[grant]]"]),
        ("[[grants]]\nscope = 'status'\n", 1, ["unknown", "grants; did you mean grant?"]),
        ("[[grant]]\nlable = 'a'\n", 2, ["unknown key grant.lable; did you mean label?"]),
        ("[[grant]]\nscope = 'token'\n[[grant]]\nlable = 'a'\n", 4, ["did you mean label?"]),
        ("[[grant]]\n[grant.models]\na = 1\n", 2, ["grant.models must be a list of patterns"]),
        ("[[grant]]\nscope = 'tokens'\n", 2, ["status, complete, token, admin", "mean token?"]),
        ("[[grant]]\nscope = 4\n", 2, ['grant.scope must be a string in "quotes"']),
        ("[[grant]]\nsandbox = 'flatpack'\n", 2, ["container, any (did you mean flatpak?)"]),
        ("[[grant]]\nlistener = ''\n", 2, ["grant.listener must be the name of a socket"]),
        ("[[grant]]\nlistener = 'a:b'\n", 2, ["FileDescriptorName="]),
        ("[[grant]]\nlistener = 1\n", 2, ["grant.listener must be the name"]),
        ("[[grant]]\nuid = 'me'\n", 2, ["grant.uid must be a number from 0 to 4294967294"]),
        ("[[grant]]\nuid = -1\n", 2, ["a number from 0"]),
        ("[[grant]]\nuid = 4294967295\n", 2, ["a number from 0"]),
        ("[[grant]]\ngid = true\n", 2, ["grant.gid must be a number"]),
        ("[[grant]]\ngid = 1.0\n", 2, ["grant.gid must be a number"]),
        ("[[grant]]\nunit = ''\n", 2, ["grant.unit must be a pattern", "like app-*.scope"]),
        ("[[grant]]\nlabel = ['a']\n", 2, ["grant.label must be a pattern"]),
        ('[[grant]]\nlabel = "a\\u009bb"\n', 2, ["visible characters"]),
        ("[[grant]]\nmodels = 'gpt-*'\n", 2, ['grant.models must be a list of patterns, like ["']),
        ("[[grant]]\nmodels = []\n", 2, ["grant.models must be a list of patterns"]),
        ("[[grant]]\nmodels = [\n 'a',\n 1,\n]\n", 2, ["list of patterns", "each must be a pat"]),
        (
            "[[grant]]\naccounts = ['a b']\n",
            2,
            ["list of accounts", "each must be 1 to 64 letters"],
        ),
        ("[[grant]]\nrequests_per_minute = 0\n", 2, ["must be a number from 1 to"]),
        ("[[grant]]\nrequests_per_minute = '3'\n", 2, ["must be a number from 1 to"]),
        ("\n[[grant]]\nunit = 'a'\n", 2, ["leaves everything", "(scope, models, accounts, requ"]),
        ("[[grant]]\n[[grant]]\nscope = 'token'\n", 1, ["grant leaves everything"]),
        (
            "[[grant]]\nlistener = 'http'\nscope = 'token'\n",
            3,
            ["grant.scope must be status or complete for the listener http"],
        ),
        (
            "[[grant]]\nscope = 'token'\nmodels = ['a']\n",
            2,
            ["grant.scope must be at most complete beside models"],
        ),
        (
            "[[grant]]\naccounts = ['a']\nscope = 'admin'\n",
            3,
            ["grant.scope must be at most token beside accounts"],
        ),
        (
            "[[grant]]\ngid = 100\nrequests_per_minute = 5\n",
            2,
            ["grant.gid lets that group in: say how far, with scope"],
        ),
        ("[[grant]]\nscope = 'token'\n" * 101, 201, ["more than 100 tables [[grant]]"]),
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


def test_a_rule_knows_where_it_stands():
    text = """# [[grant]]
[log]
level = "info"
[[grant]]
unit = '''
[[grant]]'''
scope = "token"

  [[ "grant" ]]  # [[grant]]
models = [
  "a",  # [[grant]]
]
[store]
kind = "auto"
[["\\u0067rant"]]
scope = "status"
"""
    rules = read(text).grants
    assert [rule.where for rule in rules] == ["x.toml:4", "x.toml:9", "x.toml:15"]
    inline = "grant = [{scope = 'token'},\n {scope = 'status'}]\n[log]\ngrant = [{}]"
    assert lines_of_tables(inline, "grant") == [1, 1]


statements = st.sampled_from(
    [
        "[[grant]]\n",
        "[[grant]] # x\n\n",
        "a%d = 1\n",
        "a%d = [\n[1],\n{b = 2}]\n",
        'a%d = """\n[[grant]]\n"""\n',
        "a%d.grant = [{b = 1}]\n",
        "[b%d]\n",
        "[b%d]\ngrant = [{}]\n",
        "[[grant.a%d]]\n",
        "# [[grant]]\n",
    ]
)


@given(st.lists(statements, max_size=8))
def test_each_rule_has_one_line_and_it_is_that_of_its_header(parts):
    import tomllib

    lines = ["[[grant]]\n", *(part.replace("%d", str(n)) for n, part in enumerate(parts))]
    text = "".join(lines)
    found = lines_of_tables(text, "grant")
    assert len(found) == len(tomllib.loads(text)["grant"])
    at = [
        "".join(lines[:n]).count("\n") + 1
        for n, part in enumerate(lines)
        if part[:9] == "[[grant]]"
    ]
    assert found == at


def test_as_many_rules_as_there_may_be():
    assert len(read("[[grant]]\nscope = 'token'\n" * GRANTS_MAX).grants) == GRANTS_MAX


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


def test_a_link_that_leads_out_of_reach_says_what_to_do(tmp_path, monkeypatch):
    def refused(path, _mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refused)
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        load(path, {})
    path.symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match=r"new link\? Run: systemctl --user restart copilot"):
        load(path, {})


def test_a_file_that_everybody_may_write_is_refused(tmp_path):
    path = tmp_path / "config.toml"
    path.touch()
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="chmod o-w"):
        load(path, {})
