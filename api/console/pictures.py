"""The pictures in a task's input and result, each at an address of its own, so that a page stays small."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from api.console import documents
from api.console.answers import caller_of
from api.console.page import EVERYBODY
from api.dependencies import Context
from api.http.errors import NotFound
from api.routes import access
from infra.db.tasks import queries
from infra.db.tasks.queries import Task
from infra.json.off_loop import off_loop
from infra.json.strict_json import UNPRINTABLE

_DOCUMENTS: dict[str, Callable[[Task], str | None]] = {
    "input": lambda task: task.payload,
    "result": lambda task: task.result,
}
_NUMBERS = frozenset(map(str, range(documents.MOST_PICTURES)))


async def picture(request: Request) -> Response:
    """A picture by its number in one of a task's documents. Raises Unauthorized, Forbidden, TaskNotFound, NotFound."""
    caller = caller_of(request, EVERYBODY)
    context: Context = request.app.state.context
    task_id, number = request.path_params["task_id"], request.path_params["number"]
    of = _DOCUMENTS.get(request.path_params["document"])
    if of is None or number not in _NUMBERS or UNPRINTABLE.search(task_id):
        raise NotFound
    text = of(await access.read_task(context, caller, task_id, queries.get)) or ""
    found = await off_loop.run(len(text), lambda: _decoded(text, int(number)))
    return Response(found[1], media_type=found[0], headers={"Cache-Control": "no-store"})


def _decoded(text: str, number: int) -> tuple[str, bytes]:
    pictures = documents.read(text).pictures
    if number >= len(pictures):
        raise NotFound
    try:
        return pictures[number].media_type, b64decode(pictures[number].base64)
    except ValueError:
        raise NotFound from None
