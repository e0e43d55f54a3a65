"""Senders of events, one module for each protocol: honest clients, which repeat what failed."""
