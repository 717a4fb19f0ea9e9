"""Asking the simulated GitHub by hand."""

from __future__ import annotations

import contextlib

import httpx

from brokerd.simulator import Simulator


__all__ = [
    "CLIENT",
    "EXCHANGE",
    "GRANT_TYPE",
    "POLL",
    "control",
    "poll",
    "sign_in",
    "signed",
    "simulator",
    "start",
]

CLIENT = "Iv1.0000000000000000"
EXCHANGE = "/copilot_internal/v2/token"
POLL = "/login/oauth/access_token"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"


@contextlib.asynccontextmanager
async def simulator(host=None, **settings):
    """Run one, and a client that calls it by a real name if `host` is given."""
    headers = {"Accept": "application/json"} | ({} if host is None else {"Host": host})
    async with (
        Simulator(**settings) as running,
        httpx.AsyncClient(  # plain HTTP: no certificates to load, which is slow
            base_url=running.url, headers=headers, trust_env=False, verify=False
        ) as http,
    ):
        yield running, http


async def start(http, client_id=CLIENT, *, headers=None, **more):
    answer = await http.post(
        "/login/device/code", data={"client_id": client_id, **more}, headers=headers
    )
    assert answer.status_code == 200
    return answer.json()


async def poll(http, code, client_id=CLIENT, *, headers=None, **more):
    form = {"client_id": client_id, "device_code": code["device_code"], "grant_type": GRANT_TYPE}
    answer = await http.post(POLL, data=form | more, headers=headers)
    assert answer.status_code == 200
    return answer.json()


async def sign_in(http, client_id=CLIENT, **more):
    """Sign in where each grant is approved at once; headers for what comes next."""
    granted = await poll(http, await start(http, client_id, **more), client_id)
    return signed(granted["access_token"])


def signed(token, scheme="token"):
    return {"Authorization": f"{scheme} {token}"}


async def control(http, verb, **body):
    answer = await http.post(f"/_control/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()
