"""Several hosts on one machine: network namespaces, a Service's addresses, and a fleet in them.

`network` makes the hosts and cables, and cuts them; `service` deals out one address to those that
are ready, as kube-proxy does; `fleet` puts gateways, brokers, a sink and devices on the hosts.
"""
