"""One run of the retention, started by a Temporal Schedule."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.ports import RetentionActivities


@workflow.defn(name="RetentionWorkflow")
class RetentionWorkflow:
    """Forget what is older than the settings keep it."""

    @workflow.run
    async def run(self) -> dict[str, int]:
        """Returns the numbers of what was forgotten, by kind."""
        forgotten = await workflow.execute_activity_method(
            RetentionActivities.forget,
            start_to_close_timeout=policies.RETENTION_RUN,
            heartbeat_timeout=policies.MONITOR_BEAT,
            retry_policy=policies.RETENTION_RETRY,
        )
        workflow.set_current_details(f"forgotten: {forgotten or 'nothing'}")
        return forgotten
