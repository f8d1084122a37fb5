"""An alert's levels, states and legal transitions (INVARIANTS; specification, AlertInfo)."""

from __future__ import annotations

from enum import StrEnum


class AlertLevel(StrEnum):
    """CRITICAL wants a person now, WARNING soon, INFO is for the record."""

    CRITICAL = "CRITICAL"
    WARNING = "WARNING"
    INFO = "INFO"

    @property
    def rank(self) -> int:
        """Its place among the levels: 0 for the most urgent one."""
        return list(AlertLevel).index(self)


class AlertStatus(StrEnum):
    """(new) → ACTIVE → ACKNOWLEDGED; the first acknowledgement stays."""

    ACTIVE = "ACTIVE"
    ACKNOWLEDGED = "ACKNOWLEDGED"
