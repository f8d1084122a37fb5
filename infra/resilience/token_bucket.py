"""Rate limits: a token bucket that one number describes."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator

LEAST_RATE, MOST = 0.001, 1_000_000
LEAST_BYTES, MOST_BYTES = 64 * 1024, 2**40


class Rate(BaseModel):
    """Tokens per second, and the size of the bucket. A rate of 0 is no limit."""

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
    """The rate of a role: its calls, and the bytes of bodies and answers. Fields that are left out have the role's
    default."""

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
    """Bytes per second, and the size of the bucket."""

    rate: float
    burst: int


def charge(full_at: float, now: float, limit: ByteRate, count: int) -> tuple[float, float]:
    """Take `count` bytes of a bucket, even if it has fewer. Returns when it will be full, and the seconds until it is
    in credit.

    A negative `count` gives back what was charged and not used. Times are seconds by any one clock. `infra.cache` has
    the same as a script.
    """
    after = max(full_at, now) + count / limit.rate
    return after, max(0.0, after - now - limit.burst / limit.rate)


def take(full_at: float, now: float, limit: Rate, count: int = 1) -> tuple[float, float]:
    """Take `count` tokens of a bucket that will be full at `full_at`. Returns when it will then be full, and 0.

    Without them the bucket is unchanged, and the second number is the time until it has them. Times are seconds by
    any one clock. `infra.cache` has the same as a script.
    """
    after = max(full_at, now) + count / limit.rate
    wait = after - now - limit.burst / limit.rate
    return (full_at, wait) if wait > _NOTHING else (after, 0.0)


_NOTHING = 1e-6
"""Seconds that the rounding of sums may lose."""
