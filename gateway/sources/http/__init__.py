"""Events over HTTP/1.1: POST in binary, structured or batched mode, and the webhook handshake.

`source` opens the port; `listener` is what its connections share, with the one timer; `connection`
reads requests and answers them in order; `admission` judges a request by its head; `answers` says
what each answer looks like; `credentials` says who may send, and `rate` how often. `handshake` is
OPTIONS, `callback` a call to the sender that asked for consent, `origin` where such a call may go.
"""

from gateway.sources.http.config import HttpSourceConfig
from gateway.sources.http.source import HttpSource

__all__ = ["HttpSource", "HttpSourceConfig"]
