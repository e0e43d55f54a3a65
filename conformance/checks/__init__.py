"""The families of checks. Each module has a function `checks()` that returns its checks.

vectors       messages of known bytes and the event or refusal they bring, and back
"""
