"""A widely used alternative: DBOS, the durable workflow library, on the same Postgres; three steps and one message
each.

As in the bare workflow, the second step stands for the dispatch, and the message that answers it for the node's report.
The library is the optional extra `bench`. If it cannot be imported the answer says so.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import uvloop

from tests.bench.companion import serve

WARM_UP = 20


async def main() -> None:
    """Answer `{"count": …, "at_once": …}` with the workflows done per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="of a database of its own, which is made")
    url = parser.parse_args().url
    try:
        peer = Peer(url)
    except Exception as error:  # noqa: BLE001  whatever keeps it from running is the answer
        reason = f"{type(error).__name__}: {error}".splitlines()[0]

        async def refuse(_: dict[str, Any]) -> dict[str, Any]:
            return {"error": reason}

        await serve(refuse)
        return
    try:
        await peer.burst({"count": WARM_UP, "at_once": 4})
        await serve(peer.burst)
    finally:
        peer.close()


class Peer:
    """DBOS with its defaults, launched."""

    def __init__(self, url: str) -> None:
        """Launch DBOS. Raises whatever DBOS raises, or ImportError if it is not installed."""
        from dbos import DBOS

        @DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
        async def step() -> None:
            return None

        @DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
        async def dispatch() -> None:
            self._dispatched(str(DBOS.workflow_id)).set()

        @DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
        async def three_steps_and_a_message() -> None:
            await step()
            await dispatch()
            await DBOS.recv_async(timeout_seconds=60)
            await step()

        self._waiting: dict[str, asyncio.Event] = {}
        self._dbos = DBOS
        self._workflow = three_steps_and_a_message
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
        DBOS.launch()

    async def burst(self, question: dict[str, Any]) -> dict[str, Any]:
        """Run `count` workflows, `at_once` of them at a time."""
        numbers = iter(range(question["count"]))

        async def lane() -> None:
            for _ in numbers:
                await self._one()

        began = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(question["at_once"])))
        return {"per_s": question["count"] / (time.perf_counter() - began)}

    async def _one(self) -> None:
        handle = await self._dbos.start_workflow_async(self._workflow)
        await self._dispatched(handle.workflow_id).wait()
        await self._dbos.send_async(handle.workflow_id, "done")
        await handle.get_result()
        del self._waiting[handle.workflow_id]

    def _dispatched(self, workflow_id: str) -> asyncio.Event:
        return self._waiting.setdefault(workflow_id, asyncio.Event())

    def close(self) -> None:
        """End its threads."""
        self._dbos.destroy()


if __name__ == "__main__":
    uvloop.run(main())
