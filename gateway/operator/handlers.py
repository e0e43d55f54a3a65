"""When the operator does what.

A ProtocolSource is reconciled when it appears, when its `spec` changes, and when its Deployment or
SinkBinding was deleted; its status is written when one of these two changes. There are no
finalizers: without an operator everything can be deleted, and the owner references do it.

What an event shows may be old by the time it is looked at, so each handler asks for the object as
it is, and they go one after the other: a status never tells of less than the one before it.
"""

import asyncio
import datetime as dt
import logging
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
    Manifest,
    child_name,
    children,
    listeners,
    problem,
    service_ports,
)
from gateway.operator.status import (
    CONFIGURATION_VALID,
    VALID,
    Condition,
    condition,
    invalid,
    status_of,
)

_PREFIX: Final = "operator.ce-gateway.dev"
_AGAIN_SECONDS: Final = 10
_CHILD: Final[Mapping[str, Any]] = {**MANAGED, INSTANCE: kopf.PRESENT}

_log = logging.getLogger(__name__)


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


@kopf.on.event("apps", "v1", "deployments", labels=_CHILD)
@kopf.on.event("sources.knative.dev", "v1", "sinkbindings", labels=_CHILD)
async def child_changed(
    event: kopf.RawEvent, namespace: str | None, labels: Mapping[str, str], memo: Any, **_: Any
) -> None:
    """Tell in the status what has become of a child, and make one again that is gone.

    Nobody calls again if this fails, so it is tried until the API server answers.
    """
    name = labels[INSTANCE]
    while True:
        try:
            async with memo.turn, connected() as api:
                source = await _find(api, namespace, name)
                if source:
                    await _follow(api, source, is_gone=event["type"] == "DELETED")
                return
        except ApiError as error:
            _log.warning("%s/%s: %s", namespace, name, error)
        await asyncio.sleep(_AGAIN_SECONDS)


async def _follow(api: Api, source: Mapping[str, Any], *, is_gone: bool) -> None:
    told = (source.get("status") or {}).get("observedGeneration")
    if is_gone or told != source["metadata"].get("generation"):
        await reconcile(api, source)
    else:
        await report(api, source, condition(source, CONFIGURATION_VALID))


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
    if wrong:
        await report(api, source, invalid("InvalidConfiguration", wrong))
        return
    try:
        await _make(api, source)
    except ApiError as error:
        await report(api, source, invalid("Refused", str(error)))
        raise
    await report(api, source, VALID)


async def _make(api: Api, source: Mapping[str, Any]) -> None:
    for manifest in children(source):
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        found = await api.get(kind, manifest["metadata"]["namespace"], name)
        if found and not _is_child(found, source):
            raise ApiError(f"{kind} {name} is there already and is somebody else's")
        await api.apply(manifest)
    ports = service_ports(listeners(source["spec"]["sources"]))
    namespace = source["metadata"]["namespace"]
    for suffix in (suffix for suffix, some in ports.items() if not some):
        name = f"{child_name(source)}-{suffix}"
        if _is_child(await api.get("Service", namespace, name), source):
            await api.delete("Service", namespace, name)


def _is_child(found: Manifest, source: Mapping[str, Any]) -> bool:
    """Whether an object belongs to a ProtocolSource, or to an earlier one of the same name."""
    owners = found.get("metadata", {}).get("ownerReferences") or ()
    name = source["metadata"]["name"]
    return any((each["kind"], each["name"]) == ("ProtocolSource", name) for each in owners)


async def report(api: Api, source: Mapping[str, Any], valid: Condition) -> None:
    """Write the status of a ProtocolSource, if it has changed.

    Raises:
        ApiError: the API server refuses it, or can't be reached.
    """
    metadata, name = source["metadata"], child_name(source)
    namespace = metadata["namespace"]
    deployment = await api.get("Deployment", namespace, name)
    binding = await api.get("SinkBinding", namespace, name)
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = status_of(source, deployment, binding, valid, now)
    before = source.get("status") or {}
    if any(before.get(key) != value for key, value in status.items()):
        await api.set_status(namespace, metadata["name"], status)
