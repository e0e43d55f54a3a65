"""Events over HTTP/1.1: POST in binary, structured or batched mode, and the webhook handshake.

`source` opens the port; `listener` is what its connections share, with the one timer; `connection`
reads requests and answers them in order; `admission` judges a request by its head; `answers` says
what each answer looks like; `handshake` is OPTIONS; `credentials` says who may send.
"""

from gateway.sources.http.config import HttpSourceConfig
from gateway.sources.http.source import HttpSource

__all__ = ["HttpSource", "HttpSourceConfig"]
