"""Runs a real browser on pages of somebody else's, and prints what they could read.

    python hostile.py BROWSER FLAG… < {"html", "door", "key", "patience", "within"}

Runs as the user, in the session. Serves the pages, and takes what they report. `door` is the port
of the HTTP door by TCP. Of three origins there is a page: another port of this machine's address,
another name, and a name that is the door's own port: what DNS rebinding makes of a page. There the
browser believes page and door to be of one origin, and only paths below /attacker are ours.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


WORD = b"for all to read"
reports: queue.Queue[Any] = queue.Queue()
pages: dict[str, bytes] = {}


class Attacker(BaseHTTPRequestHandler):
    """Serves pages, says a word that everybody may read, and takes reports."""

    def do_GET(self) -> None:
        self._answer(pages.get(self.path, WORD))

    def do_POST(self) -> None:
        told = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/results":
            reports.put(json.loads(told))
        self._answer(WORD)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("access-control-allow-origin", "*")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Rebound(socketserver.BaseRequestHandler):
    """Is the attacker's server for its own path, and the door for the rest, byte for byte."""

    def handle(self) -> None:
        begun = self.request.recv(65536)
        other = own if b" /attacker" in begun.split(b"\r\n", 1)[0] else door
        with socket.create_connection(("127.0.0.1", other)) as beyond:
            beyond.sendall(begun)
            back = threading.Thread(target=pass_on, args=(beyond, self.request))
            back.start()
            pass_on(self.request, beyond)
            back.join()


class Rebinder(socketserver.ThreadingTCPServer):
    """One thread a connection; none is waited for at the end."""

    daemon_threads = True
    block_on_close = False


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


asked = json.load(sys.stdin)
door = asked["door"]
server = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
server.daemon_threads = True
own = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
rebinder = Rebinder(("127.0.0.1", 0), Rebound)
threading.Thread(target=rebinder.serve_forever, daemon=True).start()

rebound = f"http://evil.example:{door}"
targets = {"address": f"http://127.0.0.1:{door}", "localhost": f"http://localhost:{door}"}
origins = {
    "port": (f"http://127.0.0.1:{own}", targets),
    "name": (f"http://page.example:{own}", targets | {"rebound": rebound}),
    "rebound": (rebound, {"rebound": rebound, "address": targets["address"]}),
}
starts = [f"{base}/attacker/{name}" for name, (base, _) in origins.items()]
for (name, (_, aims)), then in zip(origins.items(), [*starts[1:], ""], strict=True):
    settings = {
        "targets": aims,
        "key": asked["key"],
        "collector": f"http://127.0.0.1:{own}",
        "next": then,
        "patience": asked["patience"] * 1000,
    }
    packed = base64.b64encode(json.dumps(settings).encode()).decode()
    pages[f"/attacker/{name}"] = asked["html"].replace("@SETTINGS@", packed).encode()

rules = [
    f"MAP evil.example:{door} 127.0.0.1:{rebinder.server_address[1]}",
    "MAP page.example 127.0.0.1",
]
profile = tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True)
with profile, tempfile.TemporaryFile() as said:
    browser = subprocess.Popen(
        [
            *sys.argv[1:],
            f"--user-data-dir={profile.name}",
            f"--host-resolver-rules={', '.join(rules)}",
            starts[0],
        ],
        stdout=said,
        stderr=said,
        start_new_session=True,
    )
    found = []
    try:
        for _ in origins:
            found.append(reports.get(timeout=asked["within"]))
    except queue.Empty:
        pass
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # it has helpers, and is a script's child in Debian
        browser.wait(20)
        said.seek(0)
        words = said.read().decode(errors="replace")
sys.stdout.write(json.dumps({"found": found, "said": words[-3000:]}))
sys.stdout.flush()
os._exit(0)  # connections that browsers leave behind are no reason to wait
