"""CESQL 1.0: the CloudEvents SQL expression language."""
