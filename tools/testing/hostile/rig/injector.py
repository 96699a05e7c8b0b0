# SPDX-License-Identifier: GPL-2.0
"""Who lies for a case: our backend, its process, or the mutator of guest RAM; and what QEMU is told of it."""

import signal
from pathlib import Path

from rig.backend import Backend
from rig.ram import Mutator
from rig.scenario import Case
from rig.session import Session

# Slots of the root bus that a q35 machine leaves free.
FIRST_SLOT, LAST_SLOT = 0x02, 0x1D
MOST = LAST_SLOT - FIRST_SLOT + 1
FILE_SIZE = 1 << 22


class Device:
    """A device in a guest, for one case; the base has nothing that lies."""

    def __init__(self, case: Case, number: int, work: Path) -> None:
        self.case = case
        self.number = number
        self.work = work
        self.options = case.scenario.options
        self.packed = case.layout == "packed"

    @property
    def slot(self) -> str:
        """The PCI slot, as sysfs writes it."""
        return f"{FIRST_SLOT + self.number:02x}"

    @property
    def properties(self) -> str:
        """Properties that every device gets."""
        return f"id=dev{self.number},addr=0x{self.slot}"

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

    def __init__(self, case: Case, number: int, work: Path, program: Path) -> None:
        super().__init__(case, number, work)
        self.backend = Backend(program, case, work)

    def start(self) -> list[str]:
        """See Device."""
        self.backend.start()
        name = f"chr{self.number}"
        layout = ",packed=on" if self.packed else ""
        socket = f"socket,id={name},path={self.backend.socket}"
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


class Mutated(Device):
    """A device of QEMU's whose rings are written to from outside."""

    def __init__(self, case: Case, number: int, work: Path) -> None:
        super().__init__(case, number, work)
        self._log = work / f"{case.name}.log"
        self._log.write_bytes(b"")
        self._mutator: Mutator | None = None
        self._active = False

    def start(self) -> list[str]:
        """See Device."""
        content = self.work / f"content{self.number}"
        layout = ",packed=on" if self.packed else ""
        if self.case.scenario.device == "blk":
            content.write_bytes(bytes(FILE_SIZE))
            node = f"disk{self.number}"
            drive = f"driver=raw,node-name={node},file.driver=file,file.filename={content}"
            return ["-blockdev", drive, "-device", f"virtio-blk-pci,drive={node}{layout},{self.properties}"]
        content.write_bytes(b"Z" * FILE_SIZE)
        source = f"entropy{self.number}"
        return [
            *("-object", f"rng-random,id={source},filename={content}"),
            *("-device", f"virtio-rng-pci,rng={source}{layout},{self.properties}"),
        ]

    def before(self, session: Session, number: int) -> None:
        """Begin to write in the first round, and leave it before the last."""
        wanted = self.options.get("ram", {})
        if number == 0:
            seed = int(wanted.get("seed", 0))
            ram = self.work / "ram"
            name = f"dev{self.number}"
            self._mutator = Mutator(session.guest, ram, name, packed=self.packed, seed=seed, log=self._log)
            self._active = True
            self._again(session)
        elif number < 0 or number >= int(wanted.get("rounds", 1)):
            self._active = False

    def _again(self, session: Session) -> None:
        wanted = self.options.get("ram", {})
        if self._active and self._mutator is not None and self._mutator.writes < int(wanted.get("most", 1 << 30)):
            self._mutator.burst(list(wanted.get("kinds", [])), int(wanted.get("count", 4)))
            session.later(float(wanted.get("every", 0.02)), lambda: self._again(session))

    def told(self) -> bool:
        """Whether anything was written."""
        return self._mutator is not None and self._mutator.writes > 0


def device(case: Case, number: int, program: Path, work: Path) -> Device:
    """The device of CASE, the one of that NUMBER in its guest."""
    if case.scenario.injector == "ram":
        return Mutated(case, number, work)
    return Vhost(case, number, work, program)
