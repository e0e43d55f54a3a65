"""Events to an HTTP receiver: a Knative broker or channel, or anything that takes a POST.

`sink` turns lists of events into requests and answers into failures; `pool` keeps the connections
and `connection` is one of them; `target` is what all requests have in common; `verdict` is the
table of what an answer means; `knative` reads what Knative gives a container.
Redirects are never followed, proxies never used, and no `Prefer: reply` is sent.
"""

from gateway.sinks.http.config import HttpSinkConfig
from gateway.sinks.http.sink import HttpSink

__all__ = ["HttpSink", "HttpSinkConfig"]
