"""The Kafka protocol binding (kafka-protocol-binding.md 1.0.2): binary and structured.

Its own: names in `ce_` headers, lower-case to the letter; values as UTF-8 text, never
percent-encoded; `datacontenttype` in the header `content-type`, which is `Message.content_type`
here. A null value (`payload` is None) is no data, an empty value is empty data. The record key is
the sink's business: it is never made into an attribute, nor does making a key remove one.
"""

from bindings.binding import HeaderBinding

KAFKA = HeaderBinding(name="kafka", prefix="ce_", content_type_copy="accept", empty_is_absent=False)
