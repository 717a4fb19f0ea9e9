"""Two connections with a wire between them, and what property tests need to make messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import Connection, Event, Role
from copilot_broker.wire.messages import ErrorInfo


if TYPE_CHECKING:
    from copilot_broker.wire.limits import Limits


def events_of(connection: Connection) -> list[Event]:
    found = []
    while (event := connection.next_event()) is not None:
        found.append(event)
    return found


class ConnectionPair:
    """Whatever one side sends, the other has received when `exchange` returns."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.client = Connection(Role.CLIENT, limits=limits)
        self.server = Connection(Role.SERVER, limits=limits)

    def to_server(self) -> list[Event]:
        if data := self.client.data_to_send():
            self.server.receive_data(data, 0.0)
        return events_of(self.server)

    def to_client(self) -> list[Event]:
        if data := self.server.data_to_send():
            self.client.receive_data(data, 0.0)
        return events_of(self.client)

    def ask(self, method: str, params: dict | None = None) -> int:
        msgid = self.client.send_request(method, params or {})
        self.to_server()
        return msgid

    def open_stream(self) -> int:
        stream = self.server.open_stream(self.ask("token.watch"))
        self.to_client()
        return stream


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=8), inner, max_size=20)
    ),
    max_leaves=40,
)
maps = st.dictionaries(st.text(max_size=12), values, max_size=6)
errors = st.builds(
    ErrorInfo,
    st.sampled_from(ErrorClass),
    st.text(max_size=10),
    st.text(max_size=20),
    st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.none() | st.floats(0, 1e9),
)
