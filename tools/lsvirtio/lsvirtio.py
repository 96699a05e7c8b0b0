#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""lsvirtio: the virtio devices of this machine, who drives them and how.

Reads sysfs and debugfs, and writes nothing.  Works on the C stack, too, and says what is not to be known there.
One file without dependencies: it can be copied to where it is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
# Of what --json prints, see lsvirtio.schema.json.
SCHEMA = 1
FEATURE_BITS = 128
# The modules that exist in both languages, and the sample: nothing else is in Rust.
CORE = ("virtio", "virtio_ring")
IN_RUST = {*CORE, "virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_rng", "rust_virtio_minimal"}
TRANSPORTS = {"pci": "pci", "platform": "mmio", "vdpa": "vdpa", "ccw": "ccw"}
NOT_READABLE = "debugfs can be read by root only"
NOT_MOUNTED = "debugfs is not mounted"
NO_FILTER = "the kernel was built without CONFIG_VIRTIO_DEBUG"
NO_QUEUES = "the C core does not tell"
SHARED = "the C core does not tell, and the queues share a vector or have none"
NOT_RUNNING = "no driver works with the device"
NO_AFFINITY = "the kernel was built without CONFIG_GENERIC_IRQ_DEBUGFS"
COUNTERS = ("adds", "kicks", "notifications", "interrupts", "used")

Json = dict[str, Any]


def table(text: str, prefix: str = "") -> dict[int, str]:
    """`NUMBER:NAME` words as a dictionary, PREFIX before each name."""
    return {int(number): prefix + name for number, name in (word.split(":") for word in text.split())}


# What rust/virtio_spec and the kernel's headers say; the tests compare them.
STATUS = table("1:ACKNOWLEDGE 2:DRIVER 4:DRIVER_OK 8:FEATURES_OK 16:SUSPEND 64:DEVICE_NEEDS_RESET 128:FAILED")
TYPES = table(
    "0:reserved 1:net 2:block 3:console 4:rng 5:balloon 6:iomem 7:rpmsg 8:scsi 9:9p 10:mac80211-wlan "
    "11:rproc-serial 12:caif 13:memory-balloon 16:gpu 17:clock 18:input 19:vsock 20:crypto 21:signal-dist "
    "22:pstore 23:iommu 24:mem 25:sound 26:fs 27:pmem 28:rpmb 29:mac80211-hwsim 30:video-encoder "
    "31:video-decoder 32:scmi 33:nitro-sec-mod 34:i2c-adapter 35:watchdog 36:can 37:dmabuf 38:param-serv "
    "39:audio-policy 40:bt 41:gpio 45:spi 48:media"
)
# Features that a device of any type may have.
COMMON = table(
    "24:NOTIFY_ON_EMPTY 27:ANY_LAYOUT 28:INDIRECT_DESC 29:EVENT_IDX 32:VERSION_1 33:ACCESS_PLATFORM "
    "34:RING_PACKED 35:IN_ORDER 36:ORDER_PLATFORM 37:SR_IOV 38:NOTIFICATION_DATA 39:NOTIF_CONFIG_DATA "
    "40:RING_RESET 41:ADMIN_VQ 43:SUSPEND",
    "VIRTIO_F_",
)
# Those of a device type.
FEATURES = {
    1: table(
        "0:CSUM 1:GUEST_CSUM 2:CTRL_GUEST_OFFLOADS 3:MTU 5:MAC 6:GSO 7:GUEST_TSO4 8:GUEST_TSO6 9:GUEST_ECN "
        "10:GUEST_UFO 11:HOST_TSO4 12:HOST_TSO6 13:HOST_ECN 14:HOST_UFO 15:MRG_RXBUF 16:STATUS 17:CTRL_VQ "
        "18:CTRL_RX 19:CTRL_VLAN 20:CTRL_RX_EXTRA 21:GUEST_ANNOUNCE 22:MQ 23:CTRL_MAC_ADDR 50:DEVICE_STATS "
        "51:HASH_TUNNEL 52:VQ_NOTF_COAL 53:NOTF_COAL 54:GUEST_USO4 55:GUEST_USO6 56:HOST_USO 57:HASH_REPORT "
        "59:GUEST_HDRLEN 60:RSS 61:RSC_EXT 62:STANDBY 63:SPEED_DUPLEX 64:RSS_CONTEXT 65:GUEST_UDP_TUNNEL_GSO "
        "66:GUEST_UDP_TUNNEL_GSO_CSUM 67:HOST_UDP_TUNNEL_GSO 68:HOST_UDP_TUNNEL_GSO_CSUM",
        "VIRTIO_NET_F_",
    ),
    2: table(
        "0:BARRIER 1:SIZE_MAX 2:SEG_MAX 4:GEOMETRY 5:RO 6:BLK_SIZE 7:SCSI 9:FLUSH 10:TOPOLOGY 11:CONFIG_WCE "
        "12:MQ 13:DISCARD 14:WRITE_ZEROES 15:LIFETIME 16:SECURE_ERASE 17:ZONED",
        "VIRTIO_BLK_F_",
    ),
    3: table("0:SIZE 1:MULTIPORT 2:EMERG_WRITE", "VIRTIO_CONSOLE_F_"),
    5: table(
        "0:MUST_TELL_HOST 1:STATS_VQ 2:DEFLATE_ON_OOM 3:FREE_PAGE_HINT 4:PAGE_POISON 5:REPORTING",
        "VIRTIO_BALLOON_F_",
    ),
    8: table("0:INOUT 1:HOTPLUG 2:CHANGE 3:T10_PI", "VIRTIO_SCSI_F_"),
    16: table("0:VIRGL 1:EDID 2:RESOURCE_UUID 3:RESOURCE_BLOB 4:CONTEXT_INIT 5:BLOB_ALIGNMENT", "VIRTIO_GPU_F_"),
    17: table("0:ALARM", "VIRTIO_RTC_F_"),
    19: table("1:SEQPACKET", "VIRTIO_VSOCK_F_"),
    23: table("0:INPUT_RANGE 1:DOMAIN_RANGE 2:MAP_UNMAP 3:BYPASS 4:PROBE 5:MMIO 6:BYPASS_CONFIG", "VIRTIO_IOMMU_F_"),
    24: table("0:ACPI_PXM 1:UNPLUGGED_INACCESSIBLE 2:PERSISTENT_SUSPEND", "VIRTIO_MEM_F_"),
    27: table("0:SHMEM_REGION", "VIRTIO_PMEM_F_"),
    32: table("0:P2A_CHANNELS 1:SHARED_MEMORY", "VIRTIO_SCMI_F_"),
    34: table("0:ZERO_LENGTH_REQUEST", "VIRTIO_I2C_F_"),
    36: table("0:CAN_CLASSIC 1:CAN_FD 2:RTR_FRAMES 3:LATE_TX_ACK", "VIRTIO_CAN_F_"),
    40: table("0:VND_HCI 1:MSFT_EXT 2:AOSP_EXT 3:CONFIG_V2", "VIRTIO_BT_F_"),
    41: table("0:IRQ", "VIRTIO_GPIO_F_"),
}
VERSION_1, RING_PACKED, IN_ORDER = 32, 34, 35
DRIVER_OK, GONE = 4, 0xFF


class Problem(Exception):
    """Something that the user is told in one sentence."""


def text(path: Path) -> str | None:
    """What is in the file PATH, without the newline at its end; `None` if it cannot be read, or is gone."""
    try:
        return path.read_text(errors="replace").rstrip("\n")
    except OSError:
        return None


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts virtio2 before virtio10."""
    return [(int(digits or -1), other) for digits, other in re.findall(r"(\d+)|(\D+)", name)]


def entries(path: Path) -> list[Path]:
    """What is in the directory PATH, in order; nothing if it cannot be read."""
    try:
        return sorted(path.iterdir(), key=lambda entry: natural(entry.name))
    except OSError:
        return []


def link(path: Path) -> str | None:
    """The last name of what the symbolic link PATH points to; `None` if there is no such link."""
    try:
        return path.readlink().name
    except OSError:
        return None


def cpus(list_: str | None) -> list[int] | None:
    """A list of processors as the kernel writes it, `0-2,5`; `None` if it is none."""
    if list_ is None or not re.fullmatch(r"(\d+(-\d+)?(, ?)?)*", list_.strip()):
        return None
    found: list[int] = []
    for part in re.findall(r"(\d+)(?:-(\d+))?", list_):
        found += range(int(part[0]), int(part[1] or part[0]) + 1)
    return found


@dataclass
class Vector:
    """An interrupt that a virtio device has, as /sys/kernel/irq shows it."""

    irq: int
    names: list[str]
    counts: list[int]
    cpus: list[int] | None

    def shown(self, name: str) -> Json:
        """This vector for --json, where it is called NAME."""
        return {
            "irq": self.irq,
            "name": name,
            "cpus": self.cpus,
            "interrupts": sum(self.counts),
            "interrupts_per_cpu": self.counts,
        }


class Machine:
    """Where sysfs and debugfs are, and what all devices share."""

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        self.bus = sysfs / "bus/virtio"
        self.debug = sysfs / "kernel/debug/virtio"
        if not sysfs.is_dir():
            raise Problem(f"there is no sysfs at {sysfs}.")
        if not self.bus.is_dir():
            raise Problem(
                "there is no virtio bus: the module virtio is not loaded, and not built in (modprobe virtio_pci)."
            )
        self.vectors = self._vectors()

    def no_debugfs(self) -> str | None:
        """Why there is nothing to be read in debugfs; `None` if there is."""
        try:
            # Python 3.14 says False where it is not permitted to look.
            names = [entry.name for entry in (self.sysfs / "kernel/debug").iterdir()]
            if "virtio" in names:
                list(self.debug.iterdir())
        except PermissionError:
            return NOT_READABLE
        except OSError:
            return NOT_MOUNTED
        return None if names else NOT_MOUNTED

    def _vectors(self) -> list[Vector]:
        found = []
        for directory in entries(self.sysfs / "kernel/irq"):
            names = (text(directory / "actions") or "").split(",")
            if not directory.name.isdigit() or not any(name.startswith("virtio") for name in names):
                continue
            counts = [int(n) for n in (text(directory / "per_cpu_count") or "").split(",") if n.isdigit()]
            details = text(self.sysfs / "kernel/debug/irq/irqs" / directory.name) or ""
            effective = re.search(r"^\s*effectiv: *(\S+)", details, re.MULTILINE)
            found.append(Vector(int(directory.name), names, counts, cpus(effective and effective[1])))
        return found

    def module(self, name: str) -> Json:
        """The module NAME, which may be built in."""
        directory = self.sysfs / "module" / name
        # A module that is built in has no such file, nor a directory without parameters.
        loaded = (directory / "initstate").exists()
        taint = text(directory / "taint")
        language: str | None = None
        if loaded:
            language = "rust" if name in IN_RUST and "O" in (taint or "") else "c"
        return {
            "name": name,
            "language": language,
            "built_in": not loaded,
            "taint": taint if loaded else None,
            "srcversion": text(directory / "srcversion") if loaded else None,
        }

    def driver(self, directory: Path) -> Json | None:
        """The driver that the device in DIRECTORY is bound to, and its module."""
        name = link(directory / "driver")
        if name is None:
            return None
        module = link(directory / "driver/module")
        # Without a link it is part of the kernel; its module would have that name.
        return {"name": name, "module": self.module(module or name.replace("-", "_"))}

    def names(self) -> list[str]:
        """The names of all devices."""
        return [entry.name for entry in entries(self.bus / "devices")]

    def device(self, name: str) -> Json | None:
        """All that is to be known of the device NAME; `None` if it is gone."""
        return Device(self, name).shown()


class Device:
    """A device while it is looked at."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.path = machine.bus / "devices" / name
        self.debug = machine.debug / name
        self.unknown: list[Json] = []

    def shown(self) -> Json | None:
        """The device for --json; `None` if it went away meanwhile."""
        type_ = _number(text(self.path / "device"))
        status = _number(text(self.path / "status"))
        if type_ is None or status is None:
            return None
        accepted = _accepted(text(self.path / "features") or "")
        running = status != GONE and bool(status & DRIVER_OK)
        features = self._features(type_, accepted)
        queues = self._queues(_layout(accepted) if running else None)
        return {
            "name": self.name,
            "type": {"id": type_, "name": TYPES.get(type_)},
            "vendor": text(self.path / "vendor"),
            "driver": self.machine.driver(self.path),
            "transport": self._transport(VERSION_1 in accepted if running else None),
            "status": _status(status),
            "features": features,
            "queues": queues,
            "vectors": self._vectors(),
            "interfaces": self._interfaces(),
            "statistics": self._table("statistics"),
            "unknown": self.unknown,
        }

    def _lacks(self, what: str, why: str) -> None:
        self.unknown.append({"what": what, "why": why})

    def _transport(self, modern: bool | None) -> Json:
        parent = self.path.resolve().parent
        bus = link(parent / "subsystem") or ""
        interface = {True: "modern", False: "legacy", None: None}[modern]
        vendor, device = text(parent / "vendor"), text(parent / "device")
        ids = f"{vendor[2:]}:{device[2:]}" if bus == "pci" and vendor and device else None
        return {
            "bus": TRANSPORTS.get(bus, bus or None),
            "device": parent.name,
            "pci_id": ids,
            "interface": interface,
            "driver": self.machine.driver(parent),
        }

    def _features(self, type_: int, accepted: list[int]) -> Json:
        named = {**FEATURES.get(type_, {}), **COMMON}

        def by_name(bits: list[int] | None) -> list[Json] | None:
            return None if bits is None else [{"bit": bit, "name": named.get(bit)} for bit in bits]

        offered = _bits(text(self.debug / "device_features"))
        if offered is None:
            self._lacks("features that are offered, and refused", self.machine.no_debugfs() or NO_FILTER)
        refused = None if offered is None else [bit for bit in offered if bit not in accepted]
        return {
            "offered": by_name(offered),
            "accepted": by_name(accepted),
            "refused": by_name(refused),
            "filtered": by_name(_bits(text(self.debug / "filter_features"))),
        }

    def _table(self, name: str) -> list[Json] | None:
        """A table of our stack in debugfs, a dictionary a line; `None` if there is none."""
        content = text(self.debug / name)
        if content is None:
            return None
        header, *lines = content.split("\n")
        return [
            {
                key: int(word) if word.isdigit() else word
                for key, word in zip(header.split(), line.split(), strict=False)
            }
            for line in lines
            if line
        ]

    def _roles(self) -> dict[str, Vector]:
        """The vectors of this device by what is behind its name: `config`, a queue's name; empty for INTx."""
        found = {}
        for vector in self.machine.vectors:
            for name in vector.names:
                if name == self.name:
                    found[""] = vector
                elif name.startswith(f"{self.name}-"):
                    found[name.removeprefix(f"{self.name}-")] = vector
        return found

    def _vectors(self) -> list[Json]:
        roles = self._roles()
        if any(vector.cpus is None for vector in roles.values()):
            self._lacks("processors that vectors are meant for", self.machine.no_debugfs() or NO_AFFINITY)
        return [vector.shown(f"{self.name}-{role}" if role else self.name) for role, vector in roles.items()]

    def _queues(self, layout: str | None) -> list[Json] | None:
        roles = self._roles()
        shared = roles.get("virtqueues") or roles.get("")
        own = {role: vector for role, vector in roles.items() if role not in ("config", "virtqueues", "")}
        rows = self._table("queues")
        if rows is not None:
            printable = {re.sub(r"[^!-~]", "_", role): vector for role, vector in own.items()}
            return [self._queue(row, printable.get(str(row.get("name"))) or shared) for row in rows]
        why = self.machine.no_debugfs()
        if not own:
            self._lacks("queues", why or (SHARED if layout else NOT_RUNNING))
            return None
        self._lacks("index, size and counters of queues; queues without an interrupt", why or NO_QUEUES)
        # The vectors are named after the queues.
        return [self._queue({"name": role, "layout": layout}, vector) for role, vector in own.items()]

    def _queue(self, row: Json, vector: Vector | None) -> Json:
        name = row.get("name")
        if not isinstance(name, str) or name == "-":
            name = None
        return {
            "index": row.get("index"),
            "name": name,
            "size": row.get("size"),
            "free": row.get("num_free"),
            "layout": row.get("layout"),
            "indirect": _flag(row.get("indirect")),
            "event_idx": _flag(row.get("event_idx")),
            "broken": _flag(row.get("broken")),
            "counters": {key: row[key] for key in COUNTERS} if all(key in row for key in COUNTERS) else None,
            "vector": vector and {"irq": vector.irq, "shared": name not in self._roles(), "cpus": vector.cpus},
            "serves_cpus": self._serves(name or ""),
        }

    def _serves(self, queue: str) -> list[int] | None:
        """The processors whose requests and packets go to QUEUE, where the class of the device says so."""
        found = re.fullmatch(r"(req(?:_poll)?|output)\.(\d+)", queue)
        if not found:
            return None
        for disk in entries(self.path / "block"):
            return cpus(text(disk / "mq" / found[2] / "cpu_list"))
        for interface in entries(self.path / "net"):
            mask = (text(interface / "queues" / f"tx-{found[2]}/xps_cpus") or "").replace(",", "")
            if re.fullmatch("[0-9a-f]+", mask):
                return [cpu for cpu in range(int(mask, 16).bit_length()) if int(mask, 16) >> cpu & 1]
        return None

    def _interfaces(self) -> list[str]:
        """What others call the device: its disk, its network interface."""
        return [entry.name for kind in ("block", "net") for entry in entries(self.path / kind)]


def _number(value: str | None) -> int | None:
    return int(value, 16) if value and re.fullmatch("0x[0-9a-fA-F]+", value) else None


def _flag(value: object) -> bool | None:
    return bool(value) if isinstance(value, int) else None


def _bits(lines: str | None) -> list[int] | None:
    return None if lines is None else [int(line) for line in lines.split() if line.isdigit()]


def _accepted(string: str) -> list[int]:
    return [bit for bit, character in enumerate(string[:FEATURE_BITS]) if character == "1"]


def _layout(accepted: list[int]) -> str:
    return ("packed" if RING_PACKED in accepted else "split") + ("-in-order" if IN_ORDER in accepted else "")


def _status(value: int) -> Json:
    gone = value == GONE
    bits = [] if gone else [name for bit, name in STATUS.items() if value & bit]
    if gone:
        state = "gone"
    elif "FAILED" in bits:
        state = "failed"
    elif "DEVICE_NEEDS_RESET" in bits:
        state = "needs-reset"
    elif "SUSPEND" in bits:
        state = "suspended"
    else:
        state = "ready" if "DRIVER_OK" in bits else "idle"
    return {"value": value, "bits": bits, "state": state}


def look(sysfs: Path, wanted: list[str]) -> Json:
    """Everything of the devices WANTED, of all if there is none."""
    machine = Machine(sysfs)
    names = machine.names()
    for name in wanted:
        if name not in names:
            raise Problem(f"there is no device {name}{': ' + ', '.join(names) if names else '; there is none at all'}.")
    core = [machine.module(name) for name in CORE]
    # What is built in has no taint of its own; our core has a file that the C core lacks.
    tells = any((machine.debug / name / "queues").exists() for name in names) if machine.no_debugfs() is None else None
    for module in core:
        if module["built_in"] and names and tells is not None:
            module["language"] = "rust" if tells else "c"
    devices = [machine.device(name) for name in names if not wanted or name in wanted]
    return {
        "schema": SCHEMA,
        "kernel": os.uname().release,
        "core": core,
        "devices": [device for device in devices if device is not None],
    }


def whose(module: Json) -> str:
    """A module and its language, for people."""
    language = {"rust": "Rust", "c": "C", None: ""}[module["language"]]
    built_in = "built in" if module["built_in"] else ""
    return f"{module['name']} ({', '.join(filter(None, (language, built_in)))})"


def ranges(numbers: list[int]) -> str:
    """NUMBERS as the kernel writes processors: `0-2,5`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def columns(rows: list[list[str]], indent: str = "") -> list[str]:
    """ROWS as lines with aligned columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return [indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def kind(device: Json) -> str:
    """The type of DEVICE in a word."""
    return device["type"]["name"] or f"type-{device['type']['id']}"


def summary(report: Json) -> list[str]:
    """A line for each device."""
    lines = ["core: " + ", ".join(whose(module) for module in report["core"])]
    rows = [["DEVICE", "TYPE", "STATE", "QUEUES", "DRIVER", "TRANSPORT", "INTERFACE"]]
    for device in report["devices"]:
        driver, transport = device["driver"], device["transport"]
        owner = transport["driver"]
        rows.append(
            [
                device["name"],
                kind(device),
                device["status"]["state"],
                "-" if device["queues"] is None else str(len(device["queues"])),
                whose(driver["module"]) if driver else "-",
                f"{whose(owner['module']) if owner else transport['bus']} at {transport['device']}",
                " ".join(device["interfaces"]) or "-",
            ]
        )
    return [*lines, *columns(rows)] if report["devices"] else [*lines, "no virtio device"]


def words(features: list[Json]) -> list[str]:
    """A line for each of FEATURES."""
    return [f"        {f['bit']:3} {f['name'] or 'no name'}" for f in features] or ["        none"]


def queue_row(queue: Json) -> list[str]:
    """QUEUE as a row of a table."""
    vector = queue["vector"]
    counters = queue["counters"] or {}
    flags = [name for name in ("indirect", "event_idx", "broken") if queue[name]]
    values = [queue["index"], queue["name"], queue["size"], queue["free"], queue["layout"]]
    values.append(",".join(flags) if queue["indirect"] is not None else None)
    values.append(vector and f"{vector['irq']}{' shared' if vector['shared'] else ''}")
    values += [ranges(list_) if list_ else None for list_ in (vector and vector["cpus"], queue["serves_cpus"])]
    return ["-" if value in (None, "") else str(value) for value in [*values, *(counters.get(key) for key in COUNTERS)]]


def details(device: Json) -> list[str]:
    """All that is known of DEVICE, for people."""
    driver, transport, status = device["driver"], device["transport"], device["status"]
    owner = transport["driver"]
    named = f" [{' '.join(device['interfaces'])}]" if device["interfaces"] else ""
    where = " ".join(filter(None, (transport["pci_id"], transport["interface"])))
    lines = [
        f"{device['name']}: {kind(device)}{named}",
        f"    driver     {whose(driver['module']) if driver else 'none'}",
        f"    transport  {whose(owner['module']) if owner else transport['bus']} at {transport['device']}"
        + (f" ({where})" if where else ""),
        f"    status     {status['value']:#04x} {status['state']}: {' '.join(status['bits']) or 'no bit'}",
    ]
    for key in ("accepted", "refused", "filtered"):
        features = device["features"][key]
        if features or (features is not None and key != "filtered"):
            lines += [f"    features that are {key}", *words(features)]
    if device["queues"]:
        header = ["INDEX", "NAME", "SIZE", "FREE", "LAYOUT", "FLAGS", "IRQ", "CPU", "SERVES", *map(str.upper, COUNTERS)]
        rows = [header, *map(queue_row, device["queues"])]
        known = [at for at in range(len(header)) if any(row[at] != "-" for row in rows[1:])]
        lines += ["    queues", *columns([[row[at] for at in known] for row in rows], "        ")]
    if device["vectors"]:
        rows = [
            [str(vector["irq"]), vector["name"], f"{vector['interrupts']} interrupts", *_where(vector)]
            for vector in device["vectors"]
        ]
        lines += ["    vectors", *columns(rows, "        ")]
    if device["statistics"]:
        rows = [list(device["statistics"][0]), *([str(n) for n in row.values()] for row in device["statistics"])]
        lines += ["    statistics", *columns(rows, "        ")]
    return lines + [f"    not known: {item['what']}: {item['why']}" for item in device["unknown"]]


def _where(vector: Json) -> list[str]:
    seen = [cpu for cpu, count in enumerate(vector["interrupts_per_cpu"]) if count]
    return [f"on cpu {ranges(seen)}" if seen else ""]


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="lsvirtio", description="List the virtio devices of this machine.", epilog="See lsvirtio(1)."
    )
    top.add_argument("device", nargs="*", help="virtio0 and so on (default: all)")
    top.add_argument("-v", "--verbose", action="store_true", help="status, features, queues and vectors of each device")
    top.add_argument("-j", "--json", action="store_true", help="all of it, for programs")
    top.add_argument("--sysfs", type=Path, default=Path("/sys"), metavar="DIR", help="where sysfs is (default: /sys)")
    top.add_argument("--version", action="version", version=f"lsvirtio {VERSION}")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    # `lsvirtio | head` is no error.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options = parser().parse_args(arguments)
    try:
        report = look(options.sysfs, options.device)
    except Problem as problem:
        print(f"lsvirtio: {problem}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    elif options.verbose:
        head = "core: " + ", ".join(whose(module) for module in report["core"])
        print("\n\n".join([head, *("\n".join(details(device)) for device in report["devices"])]))
    else:
        print("\n".join(summary(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
