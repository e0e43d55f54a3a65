"""The NATS protocol binding (nats-protocol-binding.md, 1.0.2 and main): binary and structured.

Its own: names in `ce-` headers, compared without case since old clients canonicalise them; values
percent-encoded; `datacontenttype` in the header `ce-datacontenttype`. The message's `Content-Type`
header, passed as `Message.content_type`, only tells structured mode and is no attribute. A message
without headers whose payload is an event is structured mode as 1.0.2 knows it, and as other SDKs
still send it.
"""

from bindings.binding import HeaderBinding

NATS = HeaderBinding(
    name="nats",
    prefix="ce-",
    fold_case=True,
    percent=True,
    content_type_header="ce-datacontenttype",
    json_only=True,  # section 3
    bare_json=True,
)
