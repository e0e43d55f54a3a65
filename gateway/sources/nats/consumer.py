"""The durable consumer of a stream: find it or make it, and check that nothing can get lost."""

import logging
from datetime import datetime
from typing import Any, NamedTuple

import nats.errors
import nats.js.api as js_api
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamManager

from gateway.errors import GatewayError
from gateway.nats_connection import MissingError
from gateway.sources.nats.config import NatsSourceConfig

_REWIND_SECONDS = 2.0
_NO_STREAM = 10059
"""JetStream's error number of a stream that does not exist."""

_log = logging.getLogger(__name__)


class Consumer(NamedTuple):
    """What matters of a consumer.

    Attributes:
        created: when; one of the same name that was made later is another one.
        ack_wait: seconds without a sign after which the server redelivers.
        window: messages that may be under way here.
    """

    created: datetime | None
    ack_wait: float
    window: int


async def find_consumer(client: Client, config: NatsSourceConfig, *, rewind: bool) -> Consumer:
    """Return the consumer; makes it if it is missing and may be made.

    Args:
        client: connected.
        config: of the source.
        rewind: let it begin again at what was not acknowledged. Else what a killed process had
            under way comes again only after `ack_wait`, and newer events of its keys before it.

    Raises:
        GatewayError: it is of a kind that loses messages; the text says what to change.
        MissingError: it or its stream is not there.
        nats.errors.Error: there is no answer, or another one.
    """
    manager = JetStreamManager(client)
    try:
        info = await manager.consumer_info(config.stream, config.durable)
    except nats.js.errors.NotFoundError as error:
        if error.err_code == _NO_STREAM:
            raise MissingError(f"stream {config.stream}") from None
        if not config.create:
            raise MissingError(f"consumer {config.durable} of stream {config.stream}") from None
        info = await manager.add_consumer(
            config.stream,
            durable_name=config.durable,
            ack_policy=js_api.AckPolicy.EXPLICIT,
            ack_wait=config.ack_wait,
            max_deliver=-1,
            max_ack_pending=config.max_ack_pending,
            **_filter(config.subjects),
        )
    found = info.config
    _check(found, config)
    # Who waits for messages is another replica, and what is under way may be in its hands.
    if rewind and info.num_ack_pending and not info.num_waiting:
        await _rewind(client, config, info.num_ack_pending)
    limit = found.max_ack_pending or 0
    waits = [found.ack_wait or config.ack_wait, *(found.backoff or ())]
    window = min(config.max_ack_pending, limit) if limit > 0 else config.max_ack_pending
    return Consumer(info.created, min(waits), window)


async def _rewind(client: Client, config: NatsSourceConfig, count: int) -> None:
    """Reset the consumer to its last acknowledgement (NATS ADR-60, since nats-server 2.14)."""
    subject = f"$JS.API.CONSUMER.RESET.{config.stream}.{config.durable}"
    try:
        answer = (await client.request(subject, b"", timeout=_REWIND_SECONDS)).data
    except (nats.errors.Error, TimeoutError) as error:
        answer = str(error).encode()
    if b'"reset_seq"' in answer:
        _log.info("%s: %d messages that nobody acknowledged come again", config.name, count)
    else:
        _log.warning(
            "%s: %d messages that nobody acknowledged come again after ack_wait, behind newer "
            "ones: %s",
            config.name,
            count,
            answer[:200].decode("utf-8", "replace"),
        )


def _check(found: js_api.ConsumerConfig, config: NatsSourceConfig) -> None:
    name = f"consumer {config.durable} of stream {config.stream}"
    if found.ack_policy != js_api.AckPolicy.EXPLICIT or found.deliver_subject:
        raise GatewayError(
            f"{name} must be a pull consumer with explicit acknowledgement: "
            "delete it, or name another one in `durable`"
        )
    if (found.max_deliver or -1) > 0:
        raise GatewayError(
            f"{name} gives a message up after {found.max_deliver} deliveries, and so may lose it: "
            f"nats consumer edit {config.stream} {config.durable} --max-deliver=-1"
        )
    if found.headers_only:
        raise GatewayError(
            f"{name} gives headers without their messages (headers_only): "
            "delete it, or name another one in `durable`"
        )


def _filter(subjects: list[str]) -> dict[str, Any]:
    if len(subjects) == 1:
        return {"filter_subject": subjects[0]}
    return {"filter_subjects": subjects} if subjects else {}
