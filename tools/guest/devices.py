# SPDX-License-Identifier: GPL-2.0
"""Device specifications of `guest run --device`, turned into QEMU arguments.

A SPEC is `NAME[,KEY=VALUE]...`.  NAME is one of the short names below, or any QEMU device, in which
case the whole SPEC is passed on untouched.  For a short name, the backend's own keys (see BACKEND_KEYS)
make the backend; every other key is a property of the device: `rng,file=/path,vectors=0`.  On a machine
without PCI the short names mean the devices of virtio-mmio.
"""

import subprocess
from pathlib import Path

from guest.errors import UserError

# Short name to QEMU device, without the transport at its end.
DEVICES = {
    "rng": "virtio-rng",
    "blk": "virtio-blk",
    "net": "virtio-net",
    "balloon": "virtio-balloon",
    "serial": "virtio-serial",
    "scsi": "virtio-scsi",
    "9p": "virtio-9p",
    "keyboard": "virtio-keyboard",
}

# Keys that go to the backend of a short name.
BACKEND_KEYS = {
    "rng": {"file"},
    "blk": {"file", "size", "driver", "label"},
    "net": {"netdev"},
    "balloon": set(),
    "serial": set(),
    "scsi": {"file", "size"},
    "9p": {"path"},
    "keyboard": set(),
}

DEFAULT = ("rng", "blk", "net", "balloon", "serial")
# The same, when the guest shows what it can do: with a file system, by whose name it is found.
DEMONSTRATED = ("rng", "blk,label=demo", "net", "balloon", "serial")

SCRATCH_SIZE = "64M"


class Builder:
    """Collects QEMU arguments; scratch disks are made in WORK, which the caller removes."""

    def __init__(self, work: Path, transport: str = "pci") -> None:
        self.args: list[str] = []
        self._work = work
        self._transport = transport
        self._count: dict[str, int] = {}
        self._disks = 0

    def add(self, spec: str) -> None:
        """One device of SPEC."""
        name, *rest = spec.split(",")
        if name not in DEVICES:
            self.args += ["-device", spec]
            return
        number = self._count.get(name, 0)
        self._count[name] = number + 1
        backend: dict[str, str] = {}
        properties: list[str] = []
        for item in rest:
            key, _, value = item.partition("=")
            if key in BACKEND_KEYS[name]:
                backend[key] = value
            else:
                properties.append(item)
        if not any(item.startswith("id=") for item in properties):
            # QEMU wants a letter first.
            properties.insert(0, f"id={'share' if name == '9p' else name}{number}")
        properties = self._backend(name, number, backend) + properties
        self.args += ["-device", ",".join([f"{DEVICES[name]}-{self._transport}", *properties])]
        if name == "scsi":
            identity = next(item for item in properties if item.startswith("id="))[3:]
            self.args += ["-device", f"scsi-hd,bus={identity}.0,drive={self._disk(backend)}"]

    def _backend(self, name: str, number: int, keys: dict[str, str]) -> list[str]:
        """Arguments of the backend; returns the device properties that name it."""
        match name:
            case "rng":
                return self._rng(number, keys)
            case "blk":
                return [f"drive={self._disk(keys)}"]
            case "net":
                netdev = keys.get("netdev", "user")
                self.args += ["-netdev", f"{netdev},id=netdev{number}"]
                return [f"netdev=netdev{number}"]
            case "9p":
                return self._9p(number, keys)
            case _:
                return []

    def _9p(self, number: int, keys: dict[str, str]) -> list[str]:
        path = Path(keys["path"]) if "path" in keys else self._work / f"share{number}"
        if "path" not in keys:
            path.mkdir()
        elif not path.is_dir():
            raise UserError(f"--device 9p,path={path}: there is no such directory.")
        self.args += ["-fsdev", f"local,id=fs{number},path={path},security_model=none"]
        return [f"fsdev=fs{number}", f"mount_tag=share{number}"]

    def _rng(self, number: int, keys: dict[str, str]) -> list[str]:
        if "file" not in keys:
            return []
        if not Path(keys["file"]).exists():
            raise UserError(f"--device rng,file={keys['file']}: there is no such file.")
        self.args += ["-object", f"rng-random,id=entropy{number},filename={keys['file']}"]
        return [f"rng=entropy{number}"]

    def _disk(self, keys: dict[str, str]) -> str:
        """Name of a new block device of QEMU."""
        number = self._disks
        self._disks += 1
        node = f"disk{number}"
        if keys.get("driver") == "null-co":
            size = keys.get("size", SCRATCH_SIZE)
            self.args += ["-blockdev", f"driver=null-co,node-name={node},read-zeroes=on,size={size}"]
            return node
        path = Path(keys["file"]) if "file" in keys else self._scratch(number, keys.get("size", SCRATCH_SIZE))
        if not path.exists():
            raise UserError(f"--device: there is no file {path} for a disk.")
        if "label" in keys:
            if "file" in keys:
                raise UserError("--device blk: label= is for a new disk, file= for one that is there.")
            command = ["mke2fs", "-q", "-t", "ext4", "-L", keys["label"], str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise UserError(f"--device blk,label={keys['label']}: mke2fs failed: {done.stderr.strip()}")
        self.args += ["-blockdev", f"driver=raw,node-name={node},file.driver=file,file.filename={path}"]
        return node

    def _scratch(self, number: int, size: str) -> Path:
        path = self._work / f"scratch{number}.img"
        with path.open("wb") as stream:
            stream.truncate(byte_size(size))
        return path


def byte_size(text: str) -> int:
    """A number of bytes with an optional suffix K, M or G."""
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    unit = scale.get(text[-1:].upper(), 1)
    digits = text[:-1] if unit != 1 else text
    if not digits.isdigit():
        raise UserError(f"{text} is not a size: write a number of bytes, or one with K, M or G.")
    return int(digits) * unit
