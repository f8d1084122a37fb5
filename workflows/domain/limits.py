"""Upper limits for callers and settings."""

MAX_TIMEOUT_MS = 86_400_000
"""A day, per attempt."""
MAX_RETRIES = 100
MAX_EXPIRES_MS = 365 * 86_400_000
"""A year."""
MAX_WAIT_S = MAX_EXPIRES_MS // 1000
MAX_REASON = 500
"""Characters of why a node is FAULTY, or recovered."""
MAX_ATTEMPT = 2**31 - 1
"""The largest number of an attempt that a column of the database can hold."""
LAST_MS = 253402300799999
"""The last time that may be a deadline, in Unix milliseconds: the end of the year 9999."""
