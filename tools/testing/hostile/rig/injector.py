# SPDX-License-Identifier: GPL-2.0
"""Who lies for a case: our backend, its process, or the mutator of guest RAM; and what QEMU is told of it."""

import signal
from pathlib import Path
from typing import Any

from rig.backend import Backend
from rig.front import Front
from rig.ram import Mutator
from rig.scenario import Case
from rig.session import Session

# Slots of the root bus that a q35 machine leaves free.
FIRST_SLOT, LAST_SLOT = 0x02, 0x1D
MOST = LAST_SLOT - FIRST_SLOT + 1
FILE_SIZE = 1 << 22


class Device:
    """A device in a guest, for one case; the base has nothing that lies."""

    def __init__(self, case: Case, number: int, work: Path, logs: Path) -> None:
        self.case = case
        self.number = number
        self.work = work
        self.log = logs / f"{case.name}.log"
        self.options = case.scenario.options
        self.packed = case.layout == "packed"

    @property
    def slot(self) -> str:
        """The PCI slot, as sysfs writes it."""
        return f"{FIRST_SLOT + self.number:02x}"

    @property
    def properties(self) -> str:
        """Properties that every device gets, and those of the scenario."""
        more = f",{self.options['properties']}" if "properties" in self.options else ""
        return f"id=dev{self.number},addr=0x{self.slot}{more}"

    def start(self) -> list[str]:
        """Prepare for QEMU; returns its arguments."""
        raise NotImplementedError

    def before(self, session: Session, number: int) -> None:
        """Round NUMBER of the workload begins."""

    def told(self) -> bool:
        """Whether the lie was really told."""
        return True

    def close(self) -> None:
        """The guest has ended."""


class Vhost(Device):
    """A device of our own backend."""

    def __init__(self, case: Case, number: int, work: Path, logs: Path, program: Path) -> None:
        super().__init__(case, number, work, logs)
        self.backend = Backend(program, case, work, self.log)
        self._front: Front | None = None

    def start(self) -> list[str]:
        """See Device."""
        self.backend.start()
        name = f"chr{self.number}"
        layout = ",packed=on" if self.packed else ""
        path = self.backend.socket
        if self.case.scenario.device == "net":
            self._front = Front(path.with_suffix(".front"), path)
            path = self._front.path
        socket = f"socket,id={name},path={path}"
        match self.case.scenario.device:
            case "blk":
                device = f"vhost-user-blk-pci,chardev={name},num-queues=1{layout}"
                socket += ",reconnect-ms=500"
            case "net":
                netdev = f"net{self.number}"
                device = f"virtio-net-pci,netdev={netdev}{layout}"
                more = ["-netdev", f"vhost-user,id={netdev},chardev={name}"]
                return ["-chardev", socket, *more, "-device", f"{device},{self.properties}"]
            case _:
                device = f"vhost-user-rng-pci,chardev={name}"
        return ["-chardev", socket, "-device", f"{device},{self.properties}"]

    def before(self, session: Session, number: int) -> None:
        """Send the process the signal that the scenario has for this round."""
        wanted = self.options.get("process", {})
        if wanted.get("round") != number:
            return
        after = float(wanted.get("after", 0.0))
        session.later(after, lambda: self.backend.send(signal.Signals[f"SIG{wanted['signal']}"]))
        if "continue" in wanted:
            session.later(after + float(wanted["continue"]), lambda: self.backend.send(signal.SIGCONT))
        if "restart" in wanted:
            session.later(after + float(wanted["restart"]), lambda: self.backend.start(honest=True))

    def told(self) -> bool:
        """Whether the backend logged a lie, if it has any to tell."""
        return "lie" not in self.options or self.backend.told() > 0

    def close(self) -> None:
        """See Device."""
        self.backend.close()
        if self._front is not None:
            self._front.close()


class Stock(Device):
    """A device of QEMU's own, which is honest; QEMU's monitor does what the scenario says while it is used."""

    def __init__(self, case: Case, number: int, work: Path, logs: Path) -> None:
        super().__init__(case, number, work, logs)
        self._active = False
        self._done = 0

    @property
    def _node(self) -> str:
        return f"disk{self.number}"

    def start(self) -> list[str]:
        """See Device."""
        content = self.work / f"content{self.number}"
        layout = ",packed=on" if self.packed else ""
        match self.case.scenario.device:
            case "blk":
                content.write_bytes(bytes(FILE_SIZE))
                faults = self.options.get("blkdebug", "")
                drive = f"driver=raw,node-name={self._node},file.driver=file,file.filename={content}"
                if faults:
                    drive = (
                        f"driver=blkdebug,node-name={self._node},image.driver=file,image.filename={content},{faults}"
                    )
                return ["-blockdev", drive, "-device", f"virtio-blk-pci,drive={self._node}{layout},{self.properties}"]
            case "net":
                netdev = f"user,id=net{self.number},net=10.0.0.0/24,host=10.0.0.1,restrict=on"
                device = f"virtio-net-pci,netdev=net{self.number}{layout},{self.properties}"
                return ["-netdev", netdev, "-device", device]
            case _:
                content.write_bytes(b"Z" * FILE_SIZE)
                source = f"entropy{self.number}"
                return [
                    *("-object", f"rng-random,id={source},filename={content}"),
                    *("-device", f"virtio-rng-pci,rng={source}{layout},{self.properties}"),
                ]

    def before(self, session: Session, number: int) -> None:
        """Begin in the first round; stop before the one that the scenario says, or when all is to end."""
        if number == 0:
            self._active = True
            self._begin(session)
        elif number < 0 or number >= int(self.options.get("lying", 1)):
            self._active = False

    def _begin(self, session: Session) -> None:
        for action in self.options.get("qmp", []):
            self._later(session, action, 0)

    def _later(self, session: Session, action: dict[str, Any], count: int) -> None:
        """Carry out ACTION for the time numbered COUNT, and then again, as it says."""
        if count >= int(action.get("times", 1)) or not (self._active or action.get("always")):
            return

        def act() -> None:
            names = {"device": f"dev{self.number}", "node": self._node}
            arguments = {
                key: value.format(**names) if isinstance(value, str) else value
                for key, value in action.get("arguments", {}).items()
            }
            session.guest.qmp().command(action["execute"], **arguments)
            self._done += 1
            self._later(session, action, count + 1)

        session.later(float(action.get("every" if count else "after", 0.0)), act)

    def told(self) -> bool:
        """Whether anything was done."""
        return "blkdebug" in self.options or self._done > 0


class Mutated(Stock):
    """A device of QEMU's whose rings are written to from outside."""

    def __init__(self, case: Case, number: int, work: Path, logs: Path) -> None:
        super().__init__(case, number, work, logs)
        self._mutator: Mutator | None = None

    def _begin(self, session: Session) -> None:
        seed = int(self.options.get("ram", {}).get("seed", 0))
        name = f"dev{self.number}"
        ram = self.work / "ram"
        self._mutator = Mutator(session.guest, ram, name, packed=self.packed, seed=seed, log=self.log)
        self._again(session)

    def _again(self, session: Session) -> None:
        wanted = self.options.get("ram", {})
        if self._active and self._mutator is not None and self._mutator.writes < int(wanted.get("most", 1 << 30)):
            self._mutator.burst(list(wanted.get("kinds", [])), int(wanted.get("count", 4)))
            session.later(float(wanted.get("every", 0.02)), lambda: self._again(session))

    def told(self) -> bool:
        """Whether anything was written."""
        return self._mutator is not None and self._mutator.writes > 0


def device(case: Case, number: int, program: Path, work: Path, logs: Path) -> Device:
    """The device of CASE, the one of that NUMBER in its guest; what it does is told in LOGS."""
    if case.scenario.injector == "ram":
        return Mutated(case, number, work, logs)
    if case.scenario.injector == "qmp":
        return Stock(case, number, work, logs)
    return Vhost(case, number, work, logs, program)
