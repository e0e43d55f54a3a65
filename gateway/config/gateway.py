"""The whole configuration as one record: what `load` returns and the service is built from."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, SerializeAsAny

from gateway.config.records import (
    Address,
    Duration,
    LimitsConfig,
    Listen,
    Record,
    SinkConfig,
    Size,
    SourceConfig,
)

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Names of sources, sinks and routes: they become metric labels and file names."""


def _only(available: str | None) -> AfterValidator:
    """Refuse the values that are documented and not built yet, so that nobody relies on them."""

    def check(value: object) -> object:
        if value != available:
            expected = "null" if available is None else repr(available)
            raise ValueError(f"{value!r} is not available yet, expected {expected}")
        return value

    return AfterValidator(check)


def _check_name(value: str | None) -> str | None:
    if value is not None and not NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '.', '_' and '-', at most 63")
    return value


class DeliveryConfig(Record):
    """How events reach a route's sinks. Names and meaning are those of Knative's delivery spec."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True)

    ack: Annotated[Literal["sink", "stored"], _only("sink")] = Field(
        default="sink",
        description="when the sender gets its acknowledgement; sink: every sink has the event; "
        "stored: it is on disk (not available yet)",
    )
    retry: int = Field(
        default=10, ge=0, description="attempts after the first one; 0 means one attempt"
    )
    backoff_policy: Literal["linear", "exponential"] = Field(
        default="exponential",
        alias="backoffPolicy",
        description="wait before the n-th retry, n from 1; linear: backoffDelay * n; "
        "exponential: backoffDelay * 2^n",
    )
    backoff_delay: Duration = Field(
        default=0.2, alias="backoffDelay", description="what the policy multiplies"
    )
    backoff_cap: Duration = Field(
        default=600.0, alias="backoffCap", description="longest wait; ours, Knative has none"
    )
    jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="change each wait at random by up to this part of it, 0 to 1",
    )
    timeout: Duration = Field(
        default=30.0, description="limit of one attempt, not of the whole delivery"
    )
    retry_after_max: Duration = Field(
        default=600.0,
        alias="retryAfterMax",
        description="longest Retry-After that is honoured; PT0S ignores it",
    )
    dead_letter_sink: str | None = Field(
        default=None,
        alias="deadLetterSink",
        description="where events go that a sink refused or that outlived their retries: "
        "the name of a sink, or an http(s) URL; null: the sender is told",
    )
    spool: Annotated[Literal["auto", "off"], _only("off")] = Field(
        default="off",
        description="auto: keep events on disk while a sink is in trouble (not available yet); "
        "off: tell the sender",
    )
    dead_letters: Annotated[Literal["local", "off"], _only("off")] = Field(
        default="off",
        description="local: keep dead letters on disk (not available yet); off: tell the sender",
    )


class RouteConfig(Record):
    """Which events go where. An event takes every route that wants it."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True)

    name: Annotated[str | None, AfterValidator(_check_name)] = Field(
        default=None,
        description="label in metrics and logs; default: route-1, route-2, ... in the file's order",
    )
    from_: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, alias="from", description="names of sources; omitted: every source"
    )
    filter: dict[str, Any] | list[dict[str, Any]] | None = Field(
        default=None,
        description="which events, in a dialect of CloudEvents Subscriptions: "
        "exact, prefix, suffix, all, any, not, sql; a list of them has to agree; "
        "omitted: every event",
    )
    to: list[str] = Field(
        min_length=1, description="names of sinks; the event is safe when all have it"
    )
    delivery: DeliveryConfig = Field(
        default=DeliveryConfig(), description="what differs from the file's `delivery`"
    )


class AdminConfig(Record):
    """The administration listener: health, metrics, API, console."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 8081),
        description="address; beyond loopback it can be read by anyone there",
    )
    token: SecretStr | None = Field(
        default=None,
        description="bearer token of the calls that write; "
        "without it they are refused beyond loopback",
    )


class StateConfig(Record):
    """Where durable state is kept."""

    path: Path = Field(
        default=Path("/var/lib/ce-gateway"), description="folder for what must outlive the process"
    )
    max_bytes: Size = Field(default=2**30, description="most disk space used there")


class DrainConfig(Record):
    """The end of the process, after SIGTERM."""

    grace: Duration = Field(default=20.0, description="longest time to settle what was taken")
    rate: Annotated[float | None, _only(None)] = Field(
        default=None,
        description="events per second sent to the sinks meanwhile (not available yet); "
        "null: as fast as they take them",
    )


class GatewayConfig(Record):
    """The whole file."""

    sources: dict[str, SerializeAsAny[SourceConfig]] = Field(
        default={},
        description="where messages come from, by name; the keys of each depend on its protocol",
    )
    sinks: dict[str, SerializeAsAny[SinkConfig]] = Field(
        default={}, description="where events go, by name; the keys of each depend on its protocol"
    )
    routes: list[RouteConfig] = Field(default=[], description="which events go where")
    delivery: DeliveryConfig = Field(
        default=DeliveryConfig(), description="what routes use where they say nothing else"
    )
    admin: AdminConfig = Field(
        default=AdminConfig(), description="health, metrics, API and console"
    )
    state: StateConfig = Field(default=StateConfig(), description="durable state")
    limits: LimitsConfig = Field(
        default=LimitsConfig(), description="bounds on what is held in memory"
    )
    drain: DrainConfig = Field(default=DrainConfig(), description="graceful shutdown")
    embedded_nats: bool = Field(
        default=False,
        exclude=True,
        description="start a nats-server at the address of the NATS source",
    )
