"""The findings, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from infra.db.repair.verify import Finding

HOLDS, BROKEN, UNREAD = 0, 1, 2


@dataclass
class Report:
    """All findings, and what could not be read."""

    settled: bool
    findings: list[Finding] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """The violations of all checks."""
        return sum(finding.violations for finding in self.findings)

    @property
    def status(self) -> int:
        """The exit status: 0 if all holds, 2 if something could not be read, 1 if something is broken."""
        if self.unread:
            return UNREAD
        return BROKEN if self.violations else HOLDS

    def as_json(self) -> str:
        """The report as one object on one line."""
        checks = [asdict(finding) for finding in self.findings]
        head = {"ok": self.status == HOLDS, "settled": self.settled, "violations": self.violations}
        return json.dumps({**head, "unread": self.unread, "checks": checks}, ensure_ascii=False)

    def as_table(self) -> str:
        """One line per check, by the number of its invariant; the first violations below it."""
        lines = [f"{'':2}  {'rows':>9}  {'broken':>6}  check"]
        for one in sorted(self.findings, key=lambda finding: finding.invariant):
            note = f" ({one.unknown} unknown)" if one.unknown else ""
            lines.append(f"{one.invariant:>2}  {one.rows:>9}  {one.violations:>6}  {one.name}{note}")
            lines += [f"{'':23}{example}" for example in one.examples]
            if one.violations > len(one.examples):
                lines.append(f"{'':23}… and {one.violations - len(one.examples)} more")
        lines += [f"could not be read: {what}" for what in self.unread]
        return "\n".join(lines)
