"""Drives the blocking client; see `driving.py` for what is said on stdin and stdout."""

from __future__ import annotations

import json
import sys
import threading

from plain import arguments_of, error_of, members_of, plain

import copilot_broker


class Driver:
    def __init__(self):
        self.client = None
        self.streams = {}
        self.lock = threading.Lock()

    def answer(self, asked):
        try:
            told = {"ok": getattr(self, f"do_{asked['do']}")(asked)}
        except Exception as error:
            told = {"error": error_of(error)}
        with self.lock:
            sys.stdout.write(json.dumps({"id": asked["id"], **told}) + "\n")
            sys.stdout.flush()

    def do_open(self, asked):
        self.do_close(asked)
        self.client = copilot_broker.Client(asked["path"], **asked["options"])

    def do_close(self, _):
        if self.client is not None:
            self.client.close()

    def do_surface(self, _):
        return members_of(copilot_broker.Client)

    def do_call(self, asked):
        needed, options = arguments_of(asked)
        return plain(getattr(self.client, asked["method"])(*needed, **options))

    def do_shown(self, asked):
        needed, options = arguments_of(asked)
        found = getattr(self.client, asked["method"])(*needed, **options)
        shown = [repr(found), str(found), f"{found}", f"{[found]}"]
        return {"shown": shown, "kept": plain(found)}

    def do_begin(self, asked):
        needed, options = arguments_of(asked)
        stream = getattr(self.client, asked["method"])(*needed, **options)
        self.streams[asked["id"]] = stream
        return {"stream": asked["id"], **plain(stream)}

    def do_items(self, asked):
        """Take items until the end, or leave after some, as a program would."""
        stream, items, error = self.streams[asked["stream"]], [], None
        source = stream if asked["what"] == "chunks" else getattr(stream, asked["what"])()
        try:
            for item in source:
                items.append(plain(item))
                if len(items) == asked["count"]:
                    break
        except Exception as raised:
            error = error_of(raised)
        if asked["leave"]:
            stream.close()
        return {"items": items, "error": error, "refusal": plain(getattr(stream, "refusal", None))}

    def do_leave(self, asked):
        self.streams[asked["stream"]].close()


def main():
    driver = Driver()
    for line in sys.stdin:
        threading.Thread(target=driver.answer, args=(json.loads(line),), daemon=True).start()


main()
