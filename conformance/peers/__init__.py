"""Clients and servers that speak a protocol to what is judged, and check nothing themselves."""
