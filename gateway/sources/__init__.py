"""Adapters, one file a protocol; each is imported only when a configuration names it."""
