"""Steps that only runs begun by an earlier version take, so that their histories replay and they go on to their end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.messages import Grant
    from workflows.signals import INTERNAL, of_its_inputs

BACKSTOP = timedelta(minutes=10)


async def heard_in_time(has_heard: Callable[[], bool]) -> bool:
    """Wait for a grant with a timer, as before 2026-11-30. False: look for a slot again."""
    try:
        await workflow.wait_condition(has_heard, timeout=BACKSTOP, timeout_summary="look again")
    except TimeoutError:
        return False
    return True


class Updates:
    """The updates that versions before 2026-11-30 sent to a task's workflow."""

    def granted(self, grant: Grant) -> None:
        """A slot was claimed for this task while it waited."""
        raise NotImplementedError

    @workflow.update(description=INTERNAL)
    @of_its_inputs
    def grant_slot(self, grant: Grant) -> None:
        """The same as the signal `granted`."""
        self.granted(grant)


def attempt_before(attempt: int, before: int) -> int:
    """The attempt that a reopened one goes back to: `before`, the last one known before it, as of 2026-11."""
    return before if workflow.patched("as-before") else attempt - 1
