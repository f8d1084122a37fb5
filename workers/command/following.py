"""Following a task to its end, with the question that Ctrl-C asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from gpu_orchestrator_client.errors import BadRequest, OrchestratorError
from gpu_orchestrator_client.naming import path
from gpu_orchestrator_client.streams import Stream
from workers.command import exits
from workers.command.course import Course, Update
from workers.command.output import asked, can_ask, say

if TYPE_CHECKING:
    from workers.command.server import Server


class View(Protocol):
    """Shows the course of a task while it is entered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Show nothing that moves any more."""
        return None

    def show(self, update: Update, course: Course) -> None:
        """Show a message, and where the task is after it."""

    def end(self, task: dict[str, Any]) -> None:
        """Show how the task ended, with its result. Called after the view was left."""


def follow(server: Server, task_id: str, view: View) -> int:
    """Show a task until it has ended. Its exit status; LEFT if a Ctrl-C has left it."""
    stream, course = Stream(path("tasks", task_id, "stream"), Update, ends_with="end"), Course()
    while not stream.ended:
        try:
            with view:
                for update in server.follow(stream):
                    _see(server, task_id, course, update)
                    view.show(update, course)
        except KeyboardInterrupt:
            if _is_left(server, task_id):
                return exits.LEFT
    task = _ended(server, task_id, course)
    view.end(task)
    return exits.of_task(task)


def _see(server: Server, task_id: str, course: Course, update: Update) -> None:
    course.see(update)
    if course.status == "QUEUED" and update.kind == "snapshot":  # the stream has the places of the first thousand only
        try:
            found = server.get(path("tasks", task_id, "progress"))
        except OrchestratorError:  # the stream goes on without
            return
        if waiting := found.get("waiting"):
            course.place, course.wait_s = found.get("queuePosition"), waiting.get("estimatedWaitTime")
            course.reason = waiting.get("reason")


def _ended(server: Server, task_id: str, course: Course) -> dict[str, Any]:
    """The task with its result; without, where that can't be read."""
    try:
        found: dict[str, Any] = server.get(path("tasks", task_id))
        return found
    except OrchestratorError as error:
        say(f"its result can't be read: {error}")
        return dict(course.task)


def _is_left(server: Server, task_id: str) -> bool:
    """Ask whether to cancel the task. Returns True to stop following it."""
    state = "goes on"
    try:
        if can_ask():
            say("")
            if asked(f"Cancel {task_id}? Ctrl-C leaves it running."):
                state = "may be cancelled"
                _cancel(server, task_id)
            return False
    except KeyboardInterrupt:
        say("")
    say(f"{task_id} {state}; to follow it, or to end it:")
    say(f"  gpu-orchestrator watch {task_id}\n  gpu-orchestrator cancel {task_id}")
    return True


def _cancel(server: Server, task_id: str) -> None:
    try:
        server.post(path("tasks", task_id, "cancel"), {})
    except BadRequest as error:  # it has ended in this moment
        say(str(error))
