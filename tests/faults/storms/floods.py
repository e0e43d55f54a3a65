"""Floods and connections that keep others waiting."""

FLOODS = {}
