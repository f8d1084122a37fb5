"""A DNS server on loopback whose answers change, and a resolver that asks it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence

TYPE_A, CLASS_IN = 1, 1


class LyingDns(asyncio.DatagramProtocol):
    """Answers each question with the next of `answers`, and goes on with the last one."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.port = 0

    async def __aenter__(self) -> LyingDns:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _name(data, 12)
        self.asked.append(name)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, TYPE_A, CLASS_IN, 0, 4)  # it may be kept for no time at all
        rest = b"".join(record + socket.inet_aton(one) for one in addresses)
        self._transport.sendto(head + data[12 : end + 4] + rest, addr)

    async def look_up(self, _: str, host: str) -> list[str]:
        """The addresses that the server gives now."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            labels = b"".join(bytes([len(part)]) + part.encode() for part in host.split(".")) + b"\0"
            question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", TYPE_A, CLASS_IN)
            await loop.sock_sendto(asking, question, ("127.0.0.1", self.port))
            answer = await loop.sock_recv(asking, 4096)
        count = struct.unpack(">H", answer[6:8])[0]
        start = 12 + len(labels) + 4
        return [socket.inet_ntoa(answer[start + 16 * n + 12 : start + 16 * n + 16]) for n in range(count)]


def _name(data: bytes, at: int) -> tuple[str, int]:
    parts = []
    while data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(parts), at + 1
