"""A Secret Service that wants to ask the user at every turn, as KeePassXC may: run as a program.

    python prompting_service.py ADDRESS MODE     prints "ready" when it owns the name

MODE: `prompts` answers CreateItem and Delete with a prompt, and its items have no secrets;
`no-keyring` has no default; `dead-alias` names one that is not there; `odd` fails with a name of
its own.
"""

# ruff: noqa: N802, T201 - methods have their names of the specification; "ready" goes to a pipe
from __future__ import annotations

import sys

import pydbus
from gi.repository import GLib


COLLECTION = "/org/freedesktop/secrets/collection/one"
ITEM = COLLECTION + "/1"
PROMPT = "/org/freedesktop/secrets/prompt/1"
OddError = type("com.example.Odd", (Exception,), {})


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

    def OpenSession(self, _algorithm, _input):
        return GLib.Variant("s", ""), "/org/freedesktop/secrets/session/1"

    def SearchItems(self, _):
        return ([ITEM] if self.mode == "prompts" else []), []

    def GetSecrets(self, _items, _session):
        return {}


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
