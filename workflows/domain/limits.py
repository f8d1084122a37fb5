"""What may be asked for at most, by a caller or by a setting."""

MAX_TIMEOUT_MS = 86_400_000
"""A day, per attempt."""
MAX_RETRIES = 100
MAX_REASON = 500
"""Characters of why a node is FAULTY, or recovered."""
