"""What a task may ask for at most, by its creator or by a setting."""

MAX_TIMEOUT_MS = 86_400_000
"""A day, per attempt."""
MAX_RETRIES = 100
