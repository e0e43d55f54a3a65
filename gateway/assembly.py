"""From the configuration to adapters and routes: what is named is imported, and nothing else."""

import logging
import re
from collections.abc import Callable
from typing import Any, Final

from bindings.event import Event
from gateway import registry
from gateway.config.gateway import DeliveryConfig, GatewayConfig, RouteConfig
from gateway.config.records import SinkConfig
from gateway.interfaces import Sink, Source
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_FREE_TABLES: Final = frozenset({"headers", "properties"})
"""Tables whose values may be credentials: nobody but the receiver knows."""


def make_sources(config: GatewayConfig) -> dict[str, Source]:
    """Return the configured sources by name, not yet open.

    Raises:
        GatewayError: an adapter can't be imported.
    """
    return {
        name: registry.load("sources", source.protocol)(source)
        for name, source in config.sources.items()
    }


def make_sinks(config: GatewayConfig) -> dict[str, Sink]:
    """Return the configured sinks by name, not yet open.

    Raises:
        GatewayError: an adapter can't be imported.
    """
    return {
        name: registry.load("sinks", sink.protocol)(sink) for name, sink in config.sinks.items()
    }


def address_of(name: str, sink: SinkConfig) -> str:
    """Return a sink's URL without credentials, or the nearest thing that its protocol has."""
    url = getattr(sink, "url", None)
    if url:
        return _USER_INFO.sub("", str(url))
    servers = getattr(sink, "bootstrap_servers", None)
    if servers:
        return f"kafka://{servers}/{getattr(sink, 'topic', '')}"
    return name


def masked(configuration: Any) -> Any:
    """Return a dumped configuration without what the types of its fields can't tell is secret."""
    if isinstance(configuration, dict):
        return {
            name: dict.fromkeys(value, "**********")
            if name in _FREE_TABLES and isinstance(value, dict)
            else masked(value)
            for name, value in configuration.items()
        }
    if isinstance(configuration, list):
        return [masked(value) for value in configuration]
    if isinstance(configuration, str):
        return _USER_INFO.sub("**********@", configuration)
    return configuration


def make_routes(config: GatewayConfig) -> list[Route]:
    """Return the configured routes, their filters compiled."""
    return [
        Route(
            name=name,
            sources=None if route.from_ is None else frozenset(route.from_),
            matches=_filter(route, name),
            sinks=tuple(dict.fromkeys(route.to)),  # one named twice gets an event once
            policy=policy_of(route.delivery),
            timeout=route.delivery.timeout,
            dead_letter_sink=route.delivery.dead_letter_sink,
            inflight=config.limits.inflight,
            spool=route.delivery.spool == "auto",
            stored=route.delivery.ack == "stored",
            spool_after=route.delivery.spool_after,
            drain_rate=config.drain.rate,
            keeps_letters=route.delivery.dead_letters == "local",
            dedup_window=0.0 if route.dedup is None else route.dedup.window,
            dedup_events=2 if route.dedup is None else route.dedup.max_events,
        )
        for number, route in enumerate(config.routes, 1)
        for name in (route.name or f"route-{number}",)
    ]


def policy_of(delivery: DeliveryConfig) -> RetryPolicy:
    """Return the retry policy of a delivery table."""
    return RetryPolicy(
        retry=delivery.retry,
        policy=delivery.backoff_policy,
        delay=delivery.backoff_delay,
        cap=delivery.backoff_cap,
        jitter=delivery.jitter,
        retry_after_max=delivery.retry_after_max,
    )


def _filter(route: RouteConfig, name: str) -> Callable[[Event], bool] | None:
    if not route.filter:
        return None
    from gateway.filters import compile_filter  # noqa: PLC0415 - only routes with filters pay

    throttle = Throttle()

    def on_sql_error(expression: str, error: str) -> None:
        more = throttle.pass_on(expression)
        if more is not None:
            _log.warning(
                "route %s: an event does not pass, as its filter failed: %s: %s%s",
                name,
                expression,
                error,
                more,
            )

    return compile_filter(route.filter, on_sql_error)
