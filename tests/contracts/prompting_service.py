"""A Secret Service that wants to ask the user at every turn, as KeePassXC may: run as a program.

    python prompting_service.py ADDRESS MODE     prints "ready" when it owns the name

MODE: `prompts` answers CreateItem and Delete with a prompt, and its items have no secrets;
`no-keyring` has no default; `dead-alias` names one that is not there; `odd` fails with a name of
its own. None of these can encrypt. Of those that say they can, `denies` fails with a name of its
own, `no-key` answers with no key, `key:HEX` with that one, and `garbles:IV:VALUE` (hex) with a good
one and then with a secret that nobody has encrypted.
"""

# ruff: noqa: N802, T201 - methods have their names of the specification; "ready" goes to a pipe
from __future__ import annotations

import sys

import pydbus
from gi.repository import GLib


COLLECTION = "/org/freedesktop/secrets/collection/one"
ITEM = COLLECTION + "/1"
SESSION = "/org/freedesktop/secrets/session/1"
PROMPT = "/org/freedesktop/secrets/prompt/1"
GOOD_KEY = bytes([4])  # two to the second
OddError = type("com.example.Odd", (Exception,), {})
NotSupportedError = type("org.freedesktop.DBus.Error.NotSupported", (Exception,), {})


class Service:
    """<node><interface name='org.freedesktop.Secret.Service'>
    <method name='ReadAlias'><arg type='s' direction='in'/><arg type='o' direction='out'/></method>
    <method name='OpenSession'><arg type='s' direction='in'/><arg type='v' direction='in'/>
      <arg type='v' direction='out'/><arg type='o' direction='out'/></method>
    <method name='SearchItems'><arg type='a{ss}' direction='in'/>
      <arg type='ao' direction='out'/><arg type='ao' direction='out'/></method>
    <method name='GetSecrets'><arg type='ao' direction='in'/><arg type='o' direction='in'/>
      <arg type='a{o(oayays)}' direction='out'/></method>
    </interface></node>"""

    def __init__(self, mode):
        self.mode = mode

    def ReadAlias(self, _):
        if self.mode == "odd":
            raise OddError("something odd")
        return {"no-keyring": "/", "dead-alias": COLLECTION + "/gone"}.get(self.mode, COLLECTION)

    def OpenSession(self, algorithm, _input):
        mode, *given = self.mode.split(":")
        if algorithm != "plain" and mode == "denies":
            raise OddError("no session for you")
        if algorithm != "plain" and mode in ("key", "garbles"):
            key = bytes.fromhex(given[0]) if mode == "key" else GOOD_KEY
            return GLib.Variant("ay", key), SESSION
        if algorithm != "plain" and mode != "no-key":
            raise NotSupportedError("only plain")
        return GLib.Variant("s", ""), SESSION

    def SearchItems(self, _):
        return ([ITEM] if self.mode.startswith(("prompts", "garbles")) else []), []

    def GetSecrets(self, _items, _session):
        if not self.mode.startswith("garbles"):
            return {}
        parameters, value = (bytes.fromhex(given) for given in self.mode.split(":")[1:])
        return {ITEM: (SESSION, parameters, value, "application/json")}


class Collection:
    """<node><interface name='org.freedesktop.Secret.Collection'>
    <property name='Locked' type='b' access='read'/>
    <method name='CreateItem'><arg type='a{sv}' direction='in'/><arg type='(oayays)' direction='in'/>
      <arg type='b' direction='in'/><arg type='o' direction='out'/><arg type='o' direction='out'/></method>
    </interface></node>"""

    Locked = False

    def CreateItem(self, _properties, _secret, _replace):
        return "/", PROMPT


class Item:
    """<node><interface name='org.freedesktop.Secret.Item'>
    <property name='Attributes' type='a{ss}' access='read'/>
    <method name='Delete'><arg type='o' direction='out'/></method>
    </interface></node>"""

    Attributes = {"host": "", "user_id": "none of ours"}  # noqa: RUF012 - a D-Bus property

    def Delete(self):
        return PROMPT


def main() -> None:
    address, mode = sys.argv[1:]
    bus = pydbus.connect(address)
    objects = [Service(mode), ("collection/one", Collection()), ("collection/one/1", Item())]
    with bus.publish("org.freedesktop.secrets", *objects):
        print("ready", flush=True)
        GLib.MainLoop().run()


if __name__ == "__main__":
    main()
