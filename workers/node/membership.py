"""The node's place in the fleet: register, beat, register again when forgotten."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address

import httpx

from workers.node.detect import Hardware
from workers.node.options import Options
from workers.node.orchestrator import BeatAnswer, Orchestrator, retry_after
from workers.waiting import jitter, pauses

log = logging.getLogger(__name__)

_FIRST_DELAY, _LAST_DELAY = 0.5, 10.0  # seconds between attempts to register


@dataclass(frozen=True)
class Registration:
    """The data that a node registers with."""

    options: Options
    hardware: Hardware
    port: int  # that it listens on
    slots: int
    secret: str = field(repr=False)  # the orchestrator shows it on every call to this node

    def body(self, orchestrator: tuple[str, int]) -> dict[str, object]:
        """§2.4, for the orchestrator at this host and port; raises OSError where our own address cannot be found."""
        body: dict[str, object] = {
            "gpuId": self.options.gpu_id,
            "hostname": self.options.hostname,
            "ip": self.ip(orchestrator),
            "port": self.advertised_port,
            "supportedTaskTypes": sorted(self.options.work),
            "supportedTaskPriority": self.options.priority,
            "version": _version(),
            "maxConcurrentTasks": self.slots,
            "metadata": self.hardware.metadata(),
            "dispatchSecret": self.secret,
        }
        return body | ({"vastInsId": self.options.vast_id} if self.options.vast_id else {})

    def ip(self, orchestrator: tuple[str, int]) -> str:
        """The advertised address; of a node that listens everywhere the one that it reaches the orchestrator from."""
        own = self.options.advertise_ip or self.options.host
        return _outgoing_ip(orchestrator) if ip_address(own).is_unspecified else own

    @property
    def advertised_port(self) -> int:
        """The mapped public port where there is one (vast.ai)."""
        return self.options.advertise_port or self.port


class Membership:
    """One node's registration and heartbeat."""

    def __init__(self, orchestrator: Orchestrator, registration: Registration) -> None:
        self._orchestrator = orchestrator
        self._registration = registration
        self._gpu_id = registration.options.gpu_id
        self.has_joined = False  # once: the orchestrator knows this run's dispatch secret
        self._name: str | None = None  # of the registration, for the beats

    async def join(self) -> None:
        """Register, however long the orchestrator is away; raises Refused."""
        for delay in pauses(_FIRST_DELAY, _LAST_DELAY):
            asked_for = 0.0
            try:
                self._name = await self._orchestrator.register(self._registration.body(self._orchestrator.address))
            except (httpx.HTTPError, OSError) as error:
                log.warning("cannot register yet: %s", error or repr(error))
                asked_for = retry_after(error.response) if isinstance(error, httpx.HTTPStatusError) else 0.0
            else:
                self.has_joined = True
                log.info("registered as %s", self._gpu_id)
                return
            await asyncio.sleep(asked_for + delay)

    async def beat(self, interval: float) -> None:
        """Beat every `interval` seconds until cancelled; raises Refused where a new registration is refused."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due = max(due + interval, clock())  # beats that are late do not come in a bunch
            await asyncio.sleep(due - clock())
            try:
                answer = await self._orchestrator.beat(self._gpu_id, self._name)
            except httpx.HTTPError as error:
                log.warning("heartbeat lost: %s", error or repr(error))
                continue
            if answer is BeatAnswer.OUTDATED:
                await self._give_way(interval)
            if answer is not BeatAnswer.KNOWN:
                log.warning("%s is not registered any more: registering again", self._gpu_id)
                await self.join()

    async def _give_way(self, interval: float) -> None:
        """Wait until no other agent beats for our gpuId; what runs goes on, and reports by its attempts' tokens."""
        log.error("another agent has registered as %s: giving way until it is OFFLINE", self._gpu_id)
        while True:
            await asyncio.sleep(interval * jitter())
            try:
                if await self._orchestrator.is_free(self._gpu_id):
                    return
            except httpx.HTTPError as error:
                log.warning("cannot ask for %s: %s", self._gpu_id, error or repr(error))

    async def leave(self) -> None:
        """Deregister, unless another agent has registered our gpuId or the orchestrator cannot be reached."""
        try:
            if await self._orchestrator.beat(self._gpu_id, self._name) is BeatAnswer.KNOWN:
                await self._orchestrator.deregister(self._gpu_id)
        except httpx.HTTPError as error:
            log.warning("could not deregister: %s", error or repr(error))


def _outgoing_ip(target: tuple[str, int]) -> str:
    """The source address of packets to `target`; connecting a datagram socket sends none."""
    family, _, _, _, address = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _version() -> str:
    try:
        return version("gpu-orchestrator")
    except PackageNotFoundError:
        return "0.0.0"
