"""Signal handlers that ignore unfit input: anyone with access to Temporal may send any number of inputs of any type.

The SDK calls a handler with all inputs that were sent. If they do not fit its parameters, the TypeError fails the
workflow task again and again, and the workflow is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter

W = TypeVar("W")
Handler = TypeVar("Handler", bound=Callable[..., None])

INTERNAL = "The program's own: it means nothing from anybody else."
"""How the Web UI describes what is not for people."""


def one_input(handler: Callable[[W, RawValue], None]) -> Callable[..., None]:
    """Call the handler with the first input, undecoded; an empty one where there is none.

    The SDK decodes several inputs, though the handler's annotation asks for a raw one: the first is encoded again.
    """

    @wraps(handler)
    def hear(workflow: W, *inputs: Any) -> None:
        handler(workflow, _raw(inputs[0]) if inputs else RawValue(Payload()))

    return hear


def of_its_inputs(handler: Handler) -> Handler:
    """Ignore more or fewer inputs than the handler takes, and null. One of another type does not get here."""
    wanted = len(signature(handler).parameters) - 1

    @wraps(handler)
    def hear(workflow: Any, *inputs: Any) -> None:
        if len(inputs) == wanted and None not in inputs:
            handler(workflow, *inputs)

    return cast(Handler, hear)


def _raw(given: Any) -> RawValue:
    return given if isinstance(given, RawValue) else RawValue(PayloadConverter.default.to_payload(given))
