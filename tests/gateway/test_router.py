"""Which routes a source feeds."""

from gateway.router import Route, routes_from


def test_a_route_without_from_listens_to_every_source():
    routes = [
        Route(name="all", sinks=["a"]),
        Route(name="one", sinks=["a"], sources=frozenset({"field"})),
    ]
    assert routes_from("field", routes) == [0, 1]
    assert routes_from("plant", routes) == [0]
