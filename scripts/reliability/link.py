"""Two network namespaces joined by a cable that loses and delays: a relay between two TAP devices.

It does what `tc netem` does, also where the kernel has no netem, and needs no rights outside its own namespaces.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LARGEST_FRAME = 2048
MOST_WAITING = 10_000
"""Frames on their way at once; more are lost."""


class Cable:
    """Carries Ethernet frames between two TAP devices until it is closed."""

    def __init__(self, ends: tuple[int, int], seed: int) -> None:
        self.loss, self.delay = 0.0, 0.0
        """Share of frames that are lost, and seconds that the others take."""
        self.carried = self.lost = 0
        self._ends = ends
        self._random = random.Random(seed)  # noqa: S311  # decides which frames are lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Unplug it."""
        self._closed.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        other = dict(zip(self._ends, reversed(self._ends), strict=True))
        while not self._closed.is_set():
            wait = min(max(waiting[0][0] - time.monotonic(), 0.0), 0.1) if waiting else 0.1
            for end in select.select(self._ends, [], [], wait)[0]:
                frame = os.read(end, LARGEST_FRAME)
                if self._random.random() < self.loss or len(waiting) > MOST_WAITING:
                    self.lost += 1
                else:
                    self.carried += 1
                    heapq.heappush(waiting, (time.monotonic() + self.delay, self.carried, other[end], frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    os.write(end, frame)


def namespaces_permitted() -> bool:
    """Return whether this system lets a program make network namespaces with TAP devices."""
    script = "ip tuntap add dev t0 mode tap"
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0  # noqa: S603
    except OSError:
        return False


@contextlib.contextmanager
def joined(commands: Sequence[Sequence[str]], seed: int) -> Iterator[tuple[Cable, list[subprocess.Popen[str]]]]:
    """Run two commands, each in a namespace of its own, with a cable between them; they end with the `with` block."""
    processes: list[subprocess.Popen[str]] = []
    ends: list[int] = []
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    environment["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"  # shared memory would pass by the cable
    try:
        for number, command in enumerate(commands):
            here, there = socket.socketpair()
            words = ["unshare", "--user", "--map-root-user", "--net", *command]
            words += ["--cable", f"{there.fileno()}", "--address", f"10.77.0.{number + 1}"]
            processes.append(
                subprocess.Popen(  # noqa: S603
                    words,
                    pass_fds=[there.fileno()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            there.close()
            here.settimeout(20.0)
            _, data, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
            ends.append(array.array("i", data[0][2][:4])[0])
            here.close()
        cable = Cable((ends[0], ends[1]), seed)
        try:
            yield cable, processes
        finally:
            cable.close()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def plug_in(descriptor: int, address: str) -> None:
    """Make this namespace's end of the cable and hand it to the process at the other end of a socket."""
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", b"cable", IFF_TAP | IFF_NO_PI))
    for words in (
        f"addr add {address}/24 dev cable",
        "link set cable up",
        "link set lo up",
        "route add 224.0.0.0/4 dev cable",
    ):
        subprocess.run(["ip", *words.split()], check=True)  # noqa: S603, S607
    with socket.socket(fileno=descriptor) as other:
        other.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end]))])
    os.close(end)
