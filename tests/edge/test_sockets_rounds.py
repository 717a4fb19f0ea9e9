"""What is put off to the end of a round: when it is done, in which order, and that none is lost."""

from __future__ import annotations

import asyncio
import socket

import pytest

from brokerd.sockets.channel import PIECES_MAX, PUT_OFF_MAX, Channel
from brokerd.sockets.rounds import AT_ONCE, ROOM, RoundLoop, Rounds, rounds_of


PATIENCE = 10


@pytest.fixture(params=["ours", "another"])
def run(request):
    """Run a coroutine in our own loop, and in one that knows nothing of rounds."""

    def bounded(main):
        factory = RoundLoop if request.param == "ours" else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main(), PATIENCE))

    return bounded


class Log(list):
    def late(self, what, called=False):
        def late():
            self.append(what)
            return called

        return late


def test_it_is_done_once_before_the_loop_waits_and_the_first_before_the_rest(run):
    async def main():
        log, loop = Log(), asyncio.get_running_loop()
        rounds = rounds_of(loop)
        rounds.then(log.late("a"))
        rounds.first(log.late("before"))
        rounds.then(log.late("b"))
        assert log == []
        await asyncio.sleep(0)
        assert log == ["before", "a", "b"]
        await asyncio.sleep(0)
        assert len(log) == 3
        assert rounds_of(loop) is rounds

    run(main)


def test_what_goes_first_is_done_for_its_own_sake_too(run):
    async def main():
        done = asyncio.Event()

        def late():
            done.set()
            return True

        rounds_of(asyncio.get_running_loop()).first(late)
        await done.wait()

    run(main)


def test_nobody_waits_for_more_than_a_few_others(run):
    async def main():
        log, rounds = Log(), rounds_of(asyncio.get_running_loop())
        rounds.first(log.late("before"))
        for number in range(AT_ONCE - 1):
            rounds.then(log.late(number))
        assert log == []
        rounds.then(log.late("last"))
        assert log == ["before", *range(AT_ONCE - 1), "last"]

    run(main)


def test_one_that_raises_keeps_nobody_back(run, caplog):
    async def main():
        log, rounds = Log(), rounds_of(asyncio.get_running_loop())
        rounds.then(lambda: 1 / 0)
        rounds.then(log.late("other"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert log == ["other"]

    run(main)
    assert "not done at the end of a round" in caplog.text


def test_the_loop_does_not_sleep_over_what_was_called_into_it(run):
    async def main():
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def late():
            loop.call_soon(done.set)
            return True

        rounds_of(loop).then(late)
        await done.wait()  # nothing else would wake it

    run(main)


def test_what_is_put_off_by_what_was_put_off_is_done_in_the_next_round(run):
    async def main():
        rounds, done = rounds_of(asyncio.get_running_loop()), asyncio.Event()

        def last():
            asyncio.get_running_loop().call_soon(done.set)
            return True

        rounds.then(lambda: bool(rounds.first(lambda: bool(rounds.then(last)))))
        await done.wait()

    run(main)


def test_nothing_called_is_told_as_such():
    rounds, log = Rounds(), Log()
    assert rounds.run() is False
    rounds.then(log.late("quiet"))
    assert rounds.run() is False
    rounds.first(log.late("loud", called=True))
    rounds.then(log.late("quiet"))
    assert rounds.run() is True
    assert log == ["quiet", "loud", "quiet"]


# -- the channel's half ---------------------------------------------------------------------------


class Sending(socket.socket):
    """Remembers each send."""

    def __init__(self, sock):
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self.sends = []

    def send(self, data):
        sent = super().send(data)
        self.sends.append(sent)
        return sent

    def sendmsg(self, pieces):
        sent = super().sendmsg(pieces)
        self.sends.append(sent)
        return sent


class Pair:
    def __init__(self):
        near, self.far = socket.socketpair()
        self.near = Sending(near)
        self.log = []
        self.channel = Channel(
            self.near,
            on_readable=lambda: None,
            on_writable=lambda: self.log.append("writable"),
            on_behind=lambda: self.log.append("behind"),
            on_lost=lambda: self.log.append("lost"),
        )

    async def received(self, size):
        loop = asyncio.get_running_loop()
        self.far.setblocking(False)
        data = b""
        while len(data) < size and (piece := await loop.sock_recv(self.far, 1 << 20)):
            data += piece
        return data

    def close(self):
        self.channel.close()
        self.far.close()


@pytest.fixture
def paired(run):
    def bounded(body):
        async def main():
            pair = Pair()
            try:
                await body(pair)
            finally:
                pair.close()

        run(main)

    return bounded


def test_what_a_round_writes_is_one_send(paired):
    async def body(pair):
        pair.channel.write(b"a head, ")
        pair.channel.write(b"an event, ")
        pair.channel.write(b"an end")
        assert pair.near.sends == []
        assert await pair.received(24) == b"a head, an event, an end"
        assert pair.near.sends == [24]

    paired(body)


@pytest.mark.parametrize("company", [0, 1, 2])
def test_in_a_round_of_one_event_nothing_is_put_off(company):
    """But what is held goes with what is written next."""

    async def main():
        loop = asyncio.get_running_loop()
        pair, others = Pair(), [Pair() for _ in range(company)]
        done = loop.create_future()
        seen = []

        def come():
            pair.near.recv(10)
            pair.channel.hold(b"head ")
            seen.append(list(pair.near.sends))
            pair.channel.write(b"first ")
            seen.append(list(pair.near.sends))
            pair.channel.write(b"second")
            seen.append(list(pair.near.sends))
            done.set_result(None)

        loop.add_reader(pair.near, come)
        for other in others:
            loop.add_reader(other.near, lambda other=other: other.near.recv(10))
        loop.call_soon(lambda: [each.far.send(b"go") for each in (pair, *others)])
        await done
        assert await pair.received(17) == b"head first second"
        assert pair.near.sends == ([17] if company else [11, 6])
        assert seen == ([[], [], []] if company else [[], [11], [11, 6]])
        loop.remove_reader(pair.near)
        for each in (pair, *others):
            loop.remove_reader(each.near)
            each.close()

    with asyncio.Runner(loop_factory=RoundLoop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("count", [2, PIECES_MAX, PIECES_MAX + 1, 1500])
def test_pieces_of_any_size_and_number_arrive_in_order(paired, size, count):
    async def body(pair):
        pieces = [b"%04d" % number * size for number in range(count)]
        for piece in pieces:
            pair.channel.write(piece)
        whole = b"".join(pieces)
        assert await pair.received(len(whole)) == whole

    paired(body)


@pytest.mark.parametrize("how", ["close", "let_go", "flush"])
def test_who_leaves_has_said_what_was_put_off(paired, how):
    async def body(pair):
        pair.channel.write(b"the last word")
        kept = getattr(pair.channel, how)()
        assert pair.far.recv(100) == b"the last word"
        if kept is not None:
            kept.close()

    paired(body)


def test_much_goes_out_at_once_and_in_order(paired):
    async def body(pair):
        chunk = b"x" * (PUT_OFF_MAX // 4)
        pair.channel.write(b"first")
        for _ in range(3):
            pair.channel.write(chunk)
        assert pair.near.sends == []
        pair.channel.write(chunk)
        assert pair.near.sends[:1] == [5 + 4 * len(chunk)]
        pair.channel.write(b"last")
        data = await pair.received(9 + 4 * len(chunk))
        assert (data[:5], data[-4:]) == (b"first", b"last")

    paired(body)


def test_all_channels_together_put_off_so_much_and_no_more(run):
    async def main():
        pairs = [Pair() for _ in range(3)]
        half = b"x" * (ROOM // 2)
        for pair in pairs:
            pair.channel.write(half)
        assert [bool(pair.near.sends) for pair in pairs] == [False, False, True]
        await asyncio.sleep(0)
        assert all(pair.near.sends for pair in pairs)
        for pair in pairs:
            pair.close()

    run(main)


def test_what_goes_first_is_known_before_anything_is_sent(paired):
    async def body(pair):
        rounds = rounds_of(asyncio.get_running_loop())
        for end in (pair.channel.flush, lambda: pair.channel.write(b"x" * (ROOM + 1))):
            seen = []
            pair.channel.write(b"told")
            rounds.first(lambda seen=seen: bool(seen.append(len(pair.near.sends))))
            before = len(pair.near.sends)
            end()
            assert seen == [before]
            assert len(pair.near.sends) == before + 1

    paired(body)


def test_who_does_not_read_is_found_out_at_the_end_of_the_round(paired):
    async def body(pair):
        much = b"x" * (ROOM - 1)
        pair.channel.write(much)
        assert not pair.channel.out
        while not pair.log:
            await asyncio.sleep(0)
        assert pair.log == ["behind"]
        assert len(pair.channel.out) == len(much) - pair.near.sends[0]
        pair.channel.write(b"end")
        assert (await pair.received(len(much) + 3)).endswith(b"xend")
        assert "writable" in pair.log

    paired(body)


def test_who_has_gone_is_found_out_at_the_end_of_the_round(paired):
    async def body(pair):
        pair.far.close()
        pair.channel.write(b"to nobody")
        assert pair.log == []
        while not pair.log:
            await asyncio.sleep(0)
        assert pair.log == ["lost"]
        pair.channel.write(b"to nobody")
        pair.channel.flush()
        assert pair.log == ["lost", "lost"]

    paired(body)
