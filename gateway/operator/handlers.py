"""When the operator does what.

A ProtocolSource is reconciled when it appears, when its `spec` changes, and when something of it
was deleted; its status is written when its Deployment or SinkBinding changes. There are no
finalizers: without an operator everything can be deleted, and the owner references do it.

What an event shows may be old by the time it is looked at, so each handler asks for the object as
it is, and they go one after the other: a status never tells of less than the one before it.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import kopf

from gateway.operator.api import Api, ApiError, connected, credentials
from gateway.operator.manifests import (
    GROUP,
    INSTANCE,
    MANAGED,
    PLURAL,
    VERSION,
    child_name,
    children,
    listeners,
    problem,
    service_ports,
)
from gateway.operator.status import status_of

_PREFIX: Final = "operator.ce-gateway.dev"
_AGAIN_SECONDS: Final = 10


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Keep kopf's own notes under our name, and write no events of its own."""
    memo.turn = asyncio.Lock()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_PREFIX)
    settings.posting.enabled = False


@kopf.on.login()
def login(**_: Any) -> kopf.ConnectionInfo:
    """Have kopf use the credentials that we use."""
    return credentials()


@kopf.on.resume(GROUP, VERSION, PLURAL)
@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL, field="spec")
async def changed(name: str, namespace: str | None, memo: Any, **_: Any) -> None:
    """Bring about what a ProtocolSource says; tried again until the API server has taken it."""
    try:
        async with memo.turn, connected() as api:
            source = await _find(api, namespace, name)
            if source:
                await reconcile(api, source)
    except ApiError as error:
        raise kopf.TemporaryError(str(error), delay=_AGAIN_SECONDS) from error


@kopf.on.event("apps", "v1", "deployments", labels=MANAGED)
@kopf.on.event("sources.knative.dev", "v1", "sinkbindings", labels=MANAGED)
async def child_changed(
    event: kopf.RawEvent, namespace: str | None, labels: Mapping[str, str], memo: Any, **_: Any
) -> None:
    """Tell in the status what has become of a child, and make one again that is gone."""
    async with memo.turn, connected() as api:
        source = await _find(api, namespace, labels.get(INSTANCE, ""))
        if source and event["type"] == "DELETED":
            await reconcile(api, source)
        elif source:
            await report(api, source, problem(source))


async def _find(api: Api, namespace: str | None, name: str) -> Mapping[str, Any]:
    """Return a ProtocolSource as it is now; empty if it is gone, or going."""
    source = await api.get("ProtocolSource", namespace or "", name)
    return {} if source.get("metadata", {}).get("deletionTimestamp") else source


async def reconcile(api: Api, source: Mapping[str, Any]) -> None:
    """Make, change and delete what belongs to a ProtocolSource, and write its status.

    What is wrong changes nothing: what ran before goes on.

    Raises:
        ApiError: the API server refuses something, or can't be reached.
    """
    wrong = problem(source)
    if not wrong:
        for manifest in children(source):
            await api.apply(manifest)
        ports = service_ports(listeners(source["spec"]["sources"]))
        for suffix in (suffix for suffix, some in ports.items() if not some):
            namespace = source["metadata"]["namespace"]
            await api.delete("Service", namespace, f"{child_name(source)}-{suffix}")
    await report(api, source, wrong)


async def report(api: Api, source: Mapping[str, Any], wrong: str) -> None:
    """Write the status of a ProtocolSource, if it has changed.

    Raises:
        ApiError: the API server refuses it, or can't be reached.
    """
    metadata, name = source["metadata"], child_name(source)
    namespace = metadata["namespace"]
    deployment = await api.get("Deployment", namespace, name)
    binding = await api.get("SinkBinding", namespace, name)
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = status_of(source, deployment, binding, wrong, now)
    before = source.get("status") or {}
    if any(before.get(key) != value for key, value in status.items()):
        await api.set_status(namespace, metadata["name"], status)
