"""Deliberately wrong codecs and adapters: the suite has to find every one of them."""
