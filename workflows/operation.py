"""The workflow of a bulk operation: page after page until the row says that it is done (ADR 0041)."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.domain.operation import OperationState
    from workflows.messages import OperationInput, OperationProgress
    from workflows.ports import OperationActivities


@workflow.defn(name="OperationWorkflow")
class OperationWorkflow:
    """Carries out one operation. All that it knows is in the row, so a new run goes on where the last one ended."""

    @workflow.run
    async def run(self, operation: OperationInput) -> OperationProgress:
        """Returns how it ended."""
        while True:
            progress = await workflow.execute_activity_method(
                OperationActivities.work_off_page,
                operation,
                start_to_close_timeout=policies.OPERATION_PAGE,
                heartbeat_timeout=policies.OPERATION_BEAT,
                retry_policy=policies.DATABASE_RETRY,
            )
            workflow.set_current_details(f"{progress.done} done, {progress.failed} failed of {progress.matched}")
            if progress.state is OperationState.DONE:
                return progress
            if policies.history_is_long(workflow.info()):
                workflow.continue_as_new(operation)
