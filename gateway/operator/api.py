"""The operator's way to the API server: the few requests that kopf does not make itself."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import kopf

from gateway.errors import GatewayError
from gateway.operator.manifests import GROUP, PLURAL, VERSION

_MANAGER: Final = "ce-gateway-operator"
_SECONDS: Final = 30
_PATHS: Final = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Service": "api/v1/namespaces/{}/services",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "SinkBinding": "apis/sources.knative.dev/v1/namespaces/{}/sinkbindings",
    "ProtocolSource": f"apis/{GROUP}/{VERSION}/namespaces/{{}}/{PLURAL}",
}
"""Where the objects of a kind are."""


class ApiError(GatewayError):
    """The API server did not do what it was asked for, or can't be reached."""


class Api:
    """A session with the API server.

    Args:
        session: with the credentials, and relative to the server's URL.
        tls: what its certificate is checked with; None for a server without one.
    """

    def __init__(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> None:
        self._session = session
        self._tls = tls if tls is not None else True

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Return an object, {} if there is none.

        Raises:
            ApiError: the server can't tell.
        """
        return await self._request("GET", kind, namespace, name)

    async def apply(self, manifest: Mapping[str, Any]) -> None:
        """Make an object so, or have it changed (server-side apply); fields of others stay.

        Raises:
            ApiError: the server refuses it.
        """
        metadata = manifest["metadata"]
        await self._request(
            "PATCH",
            manifest["kind"],
            metadata["namespace"],
            f"{metadata['name']}?fieldManager={_MANAGER}&force=true",
            ("application/apply-patch+yaml", manifest),  # JSON is YAML
        )

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, if there is one.

        Raises:
            ApiError: the server refuses it.
        """
        await self._request("DELETE", kind, namespace, name)

    async def set_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Write the status of a ProtocolSource; None takes a field away.

        Raises:
            ApiError: the server refuses it.
        """
        await self._request(
            "PATCH",
            "ProtocolSource",
            namespace,
            f"{name}/status",
            ("application/merge-patch+json", {"status": status}),
        )

    async def _request(
        self,
        method: str,
        kind: str,
        namespace: str,
        rest: str,
        body: tuple[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        path = f"/{_PATHS[kind].format(namespace)}/{rest}"
        headers = {"Content-Type": body[0]} if body else {}
        data = json.dumps(body[1]) if body else None
        try:
            async with self._session.request(
                method, path, data=data, headers=headers, ssl=self._tls
            ) as response:
                if response.status == 404 and body is None:
                    return {}
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"{method} {path}: {error}") from error
        if response.status >= 400:
            raise ApiError(f"{method} {path}: {response.status} {text[:500]}")
        result: dict[str, Any] = json.loads(text)
        return result


def credentials() -> kopf.ConnectionInfo:
    """Return those of the pod's service account, else those of the KUBECONFIG.

    Raises:
        ApiError: there are neither.
    """
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings)
    info = info or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise ApiError("there is neither a service account nor a KUBECONFIG")
    return info


@asynccontextmanager
async def connected() -> AsyncIterator[Api]:
    """Open a session; the credentials are read anew each time, since a token lives an hour.

    Raises:
        ApiError: there are no credentials.
    """
    info = credentials()
    async with aiohttp.ClientSession(
        info.server,
        headers=info.as_http_headers(),
        timeout=aiohttp.ClientTimeout(total=_SECONDS),
    ) as session:
        yield Api(session, info.as_ssl_context() if info.server.startswith("https") else None)
