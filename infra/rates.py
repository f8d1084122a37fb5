"""How often somebody may call: a token bucket, which one number describes."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator

LEAST_RATE, MOST = 0.001, 1_000_000
LEAST_BYTES, MOST_BYTES = 64 * 1024, 2**40


class Rate(BaseModel):
    """Tokens per second, and how many a full bucket holds; a rate of 0 is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rate: float = Field(ge=0, le=MOST)
    burst: int = Field(ge=1, le=MOST)

    @field_validator("rate")
    @classmethod
    def _check_rate(cls, value: float) -> float:
        if 0 < value < LEAST_RATE:
            raise ValueError(f"must be 0, which is no limit, or at least {LEAST_RATE:g}")
        return value


class RoleRate(Rate):
    """Of a role: its calls, and the bytes of bodies and answers; what is left out of those is the role's default."""

    bytes: float | None = Field(default=None, ge=0, le=MOST_BYTES, description="per second; 0 is no limit")
    bytes_burst: int | None = Field(default=None, ge=1, le=MOST_BYTES, alias="bytesBurst")

    @field_validator("bytes")
    @classmethod
    def _check_bytes(cls, value: float | None) -> float | None:
        if value and value < LEAST_BYTES:
            raise ValueError(f"must be 0, which is no limit, or at least {LEAST_BYTES}")
        return value


@dataclass(frozen=True)
class ByteRate:
    """Bytes per second, and how many a full bucket holds."""

    rate: float
    burst: int


def charge(full_at: float, now: float, limit: ByteRate, count: int) -> tuple[float, float]:
    """Take `count` bytes of a bucket, also where it has less: when it will be full, and the time until it is in credit.

    A negative `count` gives back what was charged and not used.
    Times in seconds by any one clock. `infra.cache` has the same as a script.
    """
    after = max(full_at, now) + count / limit.rate
    return after, max(0.0, after - now - limit.burst / limit.rate)


def take(full_at: float, now: float, limit: Rate) -> tuple[float, float]:
    """Take a token of a bucket that will be full at `full_at`: the same of the bucket afterwards, and 0.

    Without a token the bucket stays as it is, and the second number is the time until there is one. Times in seconds
    by any one clock. `infra.cache` has the same as a script.
    """
    after = max(full_at, now) + 1 / limit.rate
    wait = after - now - limit.burst / limit.rate
    return (full_at, wait) if wait > _NOTHING else (after, 0.0)


_NOTHING = 1e-6
"""Seconds that are lost in the rounding of sums."""
