"""HTTP/2 without I/O, as a client speaks it (RFC 9113, RFC 7541).

`Client` is one connection: `request` takes encoded requests, `receive` turns what was read into the
streams that ended, `output` returns what is to be written. `RequestEncoder` makes header sections.
"""

from bindings.wire.http2.client import Client
from bindings.wire.http2.frame import ErrorCode, Http2Error
from bindings.wire.http2.request import RequestEncoder
from bindings.wire.http2.stream import Limits, Stream

__all__ = ["Client", "ErrorCode", "Http2Error", "Limits", "RequestEncoder", "Stream"]
