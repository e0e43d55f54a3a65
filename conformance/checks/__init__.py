"""The families of checks. Each module has a function `checks()` that returns its checks.

vectors       messages of known bytes and the event or refusal they bring, and back
header_codec  percent-encoding in HTTP and NATS, character by character
type_lattice  values at the borders of the seven types (values), in every encoding, both ways
data_lattice  what data can be, by content type, from each carrier to each other
transparency  every set of attributes from each carrier to each other, routes, batches
filters       filters of the Subscriptions API
cesql         expressions: the TCK of the specification, and vectors for what it leaves out
webhook       web hooks: a target's answers, a sender's consent and deliveries
delivery      what a delivery over HTTP looks like, and what each answer to it means
coap          the CoAP binding in datagrams
coap_channels the same on secured channels and connections
coap_limits   what a CoAP gateway bounds, its settings, discovery
coap_endpoints what a CoAP gateway knows by its endpoint: repetitions, ids, blocks
coap_producer what binds producers of CoAP, and what becomes of an event behind a gateway
messages      messages to a live gateway over HTTP, MQTT, NATS: the events, or a refusal
limits        64 KiB of data or attributes, and what is above the limit
robustness    bytes that are not the protocol, and requests in one write
redelivery    what comes again has the same id; QoS 2; the order of PUBACKs
acknowledgement when a gateway answers, and what, by what its sink does
drain         a gateway that shuts down
secured       TLS below HTTP and MQTT
through_gateway each way in and each way out of a whole gateway
generic       what any binding has to keep to, of a stranger too: `checks_for(name)`

deliveries    events put into a sender, and its deliveries answered event by event
judging       how the families above put a question and judge the answer
live          what the families over the wire share: a device in a scene with a gateway
telling       events that show what gets lost or invented
coap_live     what checks of the CoAP binding that are no data share
"""
