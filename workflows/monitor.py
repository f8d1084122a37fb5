"""One monitor run, started by a Temporal Schedule and by `POST /monitoring/check`."""

from __future__ import annotations

from dataclasses import replace

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.messages import MonitorReport
    from workflows.ports import MonitorActivities


@workflow.defn(name="MonitorWorkflow")
class MonitorWorkflow:
    """Reconcile, then evaluate health and raise alerts."""

    @workflow.run
    async def run(self) -> MonitorReport:
        """Returns what was found and repaired."""
        once = RetryPolicy(maximum_attempts=3)
        repaired = await workflow.execute_activity_method(
            MonitorActivities.reconcile,
            start_to_close_timeout=policies.MONITOR_STEP,
            heartbeat_timeout=policies.MONITOR_BEAT,
            retry_policy=once,
        )
        report = await workflow.execute_activity_method(
            MonitorActivities.check_health,
            start_to_close_timeout=policies.MONITOR_STEP,
            heartbeat_timeout=policies.MONITOR_BEAT,
            retry_policy=once,
        )
        workflow.set_current_details(f"{report.overall_health}; repaired: {repaired or 'nothing'}")
        return replace(report, mended=repaired)
