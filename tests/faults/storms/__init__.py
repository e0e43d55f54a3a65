"""Storms: senders of what nobody should send, in a process of their own beside the good ones."""
