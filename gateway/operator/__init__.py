"""The operator for `ProtocolSource`: kopf run --all-namespaces --standalone -m gateway.operator.

Nothing else of the gateway needs it; it is the extra `operator`. It resolves no sinks: of each
`ProtocolSource` it makes a ConfigMap, a Deployment, Services for what listens, and a `SinkBinding`,
whose answers it copies to the status (`manifests.py`, `status.py`). `api.py` is its way to the API
server, `handlers.py` says when it does what.
"""

from gateway.operator import handlers

__all__ = ["handlers"]
