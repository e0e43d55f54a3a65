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


def _check_name(value: str | None) -> str | None:
    if value is not None and not NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, '.', '_' and '-', at most 63")
    return value


class DeliveryConfig(Record):
    """How events reach a route's sinks. Names and meaning are those of Knative's delivery spec."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True)

    ack: Literal["sink", "stored"] = Field(
        default="sink",
        description="when the sender gets its acknowledgement; sink: every sink has the event, or "
        "it went to the spool because a sink is in trouble; stored: it is on disk, always",
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
    timeout: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="limit of one attempt, not of the whole delivery; null: the sink's `timeout`",
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
        "the name of a sink, or an http(s) URL; null: the local dead letters, if there are any",
    )
    spool: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: keep events on disk while a sink is in trouble; off: tell the sender",
    )
    spool_after: Duration = Field(
        default=2.0,
        alias="spoolAfter",
        gt=0,
        description="a sink that takes longer than this for an event is in trouble",
    )
    dead_letters: Literal["local", "off"] = Field(
        default="local",
        description="local: keep on disk what a sink refused or what outlived its retries, unless "
        "the deadLetterSink takes it; off: tell the sender",
    )

    def contradiction(self) -> tuple[str, str] | None:
        """Return a key whose value does not fit the others, and what would; None if all do."""
        if self.ack == "stored" and self.spool == "off":
            return "ack", "stored needs a disk to store on, expected spool: auto as well"
        if self.spool == "auto" and self.dead_letters == "off":
            return "dead_letters", (
                "what is in a spool has been acknowledged and must not vanish when a sink refuses "
                "it, expected 'local', or spool: off as well"
            )
        return None


class DedupConfig(Record):
    """Deduplication by (source, id). A duplicate is acknowledged once the original is safe."""

    window: Duration = Field(
        gt=0, description="how long an event is remembered at least, such as PT10M"
    )
    max_events: int = Field(
        default=1_000_000,
        ge=2,
        description="most events remembered, about 100 bytes each; beyond it the window is shorter",
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
    dedup: DedupConfig | None = Field(
        default=None,
        description="recognise repeated events by source and id; omitted: every copy is delivered",
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

    path: Path | None = Field(
        default=None,
        description="folder for what must outlive the process, one for each gateway; omitted: "
        "$STATE_DIRECTORY, else /var/lib/ce-gateway if that can be written to, else "
        "$XDG_STATE_HOME/ce-gateway (~/.local/state/ce-gateway)",
    )
    max_bytes: Size = Field(
        default=2**30,
        description="most disk space used there: an eighth for dead letters, the rest in equal "
        "parts for the spools, one for each route and sink",
    )


LETTERS_SHARE: Final = 8
"""Dead letters take an eighth of `state.max_bytes`, each spool an equal part of the rest."""
MOST_WORKERS: Final = 1024
LEAST_BYTES: Final = 1024 * 1024
"""What a spool and the dead letters need at least."""


def shares_of(max_bytes: int, spools: int, *, keeps_letters: bool) -> tuple[int, int]:
    """Return what each spool and the dead letters may take of the state folder.

    Raises:
        ValueError: it is too little.
    """
    letters = max_bytes // LETTERS_SHARE if keeps_letters else 0
    spool = (max_bytes - letters) // max(spools, 1)
    if (
        min(spool if spools else LEAST_BYTES, letters if keeps_letters else LEAST_BYTES)
        < LEAST_BYTES
    ):
        enough = LEAST_BYTES * max(LETTERS_SHARE, 2 * spools)
        count = "1 spool" if spools == 1 else f"{spools} spools"
        raise ValueError(f"is too little for {count} and dead letters, expected at least {enough}")
    return spool, letters


class DrainConfig(Record):
    """How what has gathered goes out: at the end of the process, and from a spool."""

    grace: Duration = Field(
        default=20.0, description="after SIGTERM, longest time to settle what was taken"
    )
    rate: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="events per second that are taken from the backlog of each spool, so that a "
        "sink that has just come back is not flooded; null: as fast as the sink takes them",
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
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | Literal["auto"] = Field(
        default=1,
        description="processes that share the work (docs/workers.md); auto: one for each processor "
        "that this process may use; `run --workers` and CE_GATEWAY_WORKERS go before it",
    )
    embedded_nats: bool = Field(
        default=False,
        exclude=True,
        description="start a nats-server at the address of the NATS source",
    )
