"""What the Python clients' values are as plain data; for both drivers."""

from __future__ import annotations

import base64
import inspect
from dataclasses import fields, is_dataclass

import copilot_broker


def plain(value):
    """Return it as JSON can say it; bytes as `{"$bytes": BASE64}`."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, copilot_broker.CopilotBrokerError):
        return error_of(value)
    if is_dataclass(value):
        told = {each.name: plain(getattr(value, each.name)) for each in fields(value)}
        return told | ({"ok": value.ok} if hasattr(value, "ok") else {})
    if hasattr(value, "status") and hasattr(value, "refusal"):
        names = ("status", "headers", "account", "refusal", "ok")
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else {}


def error_of(error):
    if not isinstance(error, copilot_broker.CopilotBrokerError):
        return {"kinds": [type(error).__name__], "text": str(error)}
    kinds = [
        name
        for name in copilot_broker.__all__
        if isinstance(found := getattr(copilot_broker, name), type) and isinstance(error, found)
    ]
    told = {name: getattr(error, name) for name in ("code", "hint", "url", "retry_after")}
    return {
        **told,
        "kinds": sorted(kinds),
        "class": int(error.error_class),
        "message": error.message,
        "status": getattr(error, "status", None),
        "text": str(error),
    }


def arguments_of(asked):
    """Return what cannot be done without, and the options, with bytes as bytes."""

    def real(value):
        if isinstance(value, dict) and set(value) == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return value

    return [real(each) for each in asked["needed"]], asked["options"]


def members_of(kind):
    return sorted(name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_")
