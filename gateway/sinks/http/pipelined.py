"""One HTTP/1.1 connection with several requests under way (RFC 9112 9.3.2), for those who ask.

Only for a receiver that is known to answer pipelined requests, and in their order. One that closes
the connection before it has answered all of them may have read the others or not: those are sent
once more, at once, each of them with nothing behind it. That is no attempt, and with at-least-once
the receiver may get them twice.
"""

from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Protocol

import httptools

from gateway.sinks.http import connection
from gateway.sinks.http.connection import KNOWN_ANSWERS, MAX_HEAD, Answer, Connection, Request


class Owner(connection.Owner, Protocol):
    """The pool, as a pipelined connection sees it.

    Attributes:
        idle_timeout: seconds after which an unused connection is closed.
    """

    idle_timeout: float

    def retire(self, connection: "PipelinedConnection") -> None:
        """Give a connection no more requests."""

    def take(self, *, new_only: bool = False) -> Request | None:
        """Return the next request; only one that was never sent before if it is told so."""

    def again(self, requests: Sequence[Request]) -> None:
        """Send requests again that have no answer."""


class PipelinedConnection(Connection):
    """One connection; answers come in the order of the requests.

    Args:
        pool: whose it is.
        depth: most requests under way.

    Attributes:
        needs_another: whether another connection would help while requests wait.
    """

    needs_another: ClassVar[bool] = True

    def __init__(self, pool: Owner, depth: int) -> None:
        super().__init__(pool)
        self._owner = pool
        self._depth = depth
        self._under_way: deque[Request] = deque()
        self._answers: list[Answer] = []
        self._chunk = b""  # what was read at once, from the beginning of an answer on
        self._is_partial = False  # an answer has begun and is not complete
        self._is_plain = True  # so far it is a head, and a body as it is
        self._closes = False  # the last answer was that
        self._unfinished = 0  # bytes read since a head began that has not ended
        self._is_retired = False

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent, now or once there is room."""
        transport = self._transport
        return not self._is_retired and transport is not None and not transport.is_closing()

    def fill(self, began: float | None = None) -> None:
        """Send as many requests as are ready and may be under way.

        Args:
            began: the loop's time when connecting began, if it has just been made for them.
        """
        transport, under_way = self._transport, self._under_way
        if transport is None or not self.is_usable:
            return
        if under_way and under_way[0].repeated:  # it goes alone
            return
        now, is_idle = self._loop.time(), not under_way
        sent: list[bytes] = []
        while len(under_way) < self._depth:
            request = self._owner.take(new_only=bool(under_way))
            if request is None:
                break
            request.begin(now if began is None else began)
            if request.timeout != self._timeout:
                self._timeout = request.timeout
                self._pool.watch(request.timeout)
            self.deadline = min(self.deadline, request.deadline) if under_way else request.deadline
            under_way.append(request)
            sent.append(request.data)
            if request.repeated:
                break
        if sent:
            transport.write(sent[0] if len(sent) == 1 else b"".join(sent))
        elif is_idle:
            self.deadline = now + self._owner.idle_timeout

    def expire(self) -> None:
        """Give up: an answer took too long, or nobody needed the connection."""
        self._give_up("no answer in time", timed_out_by=self._loop.time())
        self.abort()

    # What the event loop calls.

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._retire()
        self._pool.lost(self)
        self._give_up(f"connection lost: {exc or 'closed by the sink'}")
        self._pool.wake()

    def data_received(self, data: bytes) -> None:
        if not self._under_way:  # an answer to nothing, such as 408 on an idle connection
            self._retire()
            self.close()
            return
        position = 0 if self._is_partial else self._take_known(data)
        if position < len(data):
            self._parse(data[position:])
        elif not self._is_retired:
            self._next()

    def _take_known(self, data: bytes) -> int:
        """Hand over the answers that need no parser; returns where the first one that does begins.

        A success that is longer than what was read needs it, too.
        """
        position, under_way = 0, self._under_way
        while under_way and position < len(data):
            end = KNOWN_ANSWERS.split(data, position)
            answer = KNOWN_ANSWERS.get(data[position:end])
            if answer is None:
                break
            position = end
            self._owner.tell(under_way.popleft(), answer)
        return position

    def _parse(self, data: bytes) -> None:
        self._unfinished += len(data)
        self._chunk = b"" if self._is_partial else data
        why = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            why = "an upgrade that nobody asked for"
        except httptools.HttpParserError as error:
            why = f"no HTTP answer: {error}"
        answers, self._answers = self._answers, []
        for answer in answers:
            self._owner.tell(self._under_way.popleft(), answer)
        if not (self._is_partial and not self._head_done):
            self._unfinished = 0
        elif self._unfinished > MAX_HEAD:
            why = "the head of the answer is larger than 64 KiB"
        if why or self._surplus or self._closes:
            self._give_up(why or "the sink closes the connection")
            if why:
                self.abort()
            else:
                self.close()
        else:
            self._next()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._begin()
        self._is_partial = self._is_plain = True
        # An answer to nothing: whose answer comes next could no longer be told.
        self._surplus = len(self._answers) >= len(self._under_way)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"transfer-encoding":
            self._is_plain = False
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        if self._surplus:
            return
        chunk, self._chunk = self._chunk, b""
        if not self._head_done:  # 1xx: the answer is still to come
            return
        self._is_partial = False
        self._closes = self._status_code == 101 or not self._parser.should_keep_alive()
        answer = self._answer(self._status_code)
        is_plain_success = self._is_plain and 200 <= self._status_code < 300 and not answer.fields
        if chunk and is_plain_success and not self._closes:
            end = chunk.find(b"\r\n\r\n") + 4 + self._body_bytes
            KNOWN_ANSWERS.learn(chunk[:end], self._body_bytes, answer)
        self._answers.append(answer)

    # Answering.

    def _next(self) -> None:
        transport = self._transport
        if not self._under_way and transport is not None and transport.get_write_buffer_size():
            self._retire()  # the last answer came before the whole request had left
            self.close()
            return
        self.fill()
        if self._under_way:
            self.deadline = min(request.deadline for request in self._under_way)

    def _give_up(self, why: str, timed_out_by: float | None = None) -> None:
        """Answer or repeat what is under way; take no more.

        Args:
            why: what is said of a request that is not repeated.
            timed_out_by: the loop's time; what was due by then is not repeated.
        """
        self._retire()
        requests, again = list(self._under_way), list[Request]()
        self._under_way.clear()
        for position, request in enumerate(requests):
            if position == 0 and self._is_partial and self._head_done:  # a status stands
                self._owner.tell(request, self._answer(self._status_code))
            elif timed_out_by is not None and request.deadline <= timed_out_by:
                self._owner.tell(request, Answer(None, error=why, timed_out=True))
            elif not request.repeated:
                again.append(request)
            else:
                self._owner.tell(request, Answer(None, error=why[:200]))
        if again:
            self._owner.again(again)

    def _retire(self) -> None:
        if not self._is_retired:
            self._is_retired = True
            self._owner.retire(self)
