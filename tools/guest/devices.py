# SPDX-License-Identifier: GPL-2.0
"""Device specifications of `guest run --device`, turned into QEMU arguments.

A SPEC is `NAME[,KEY=VALUE]...`.  NAME is one of the short names below, or any QEMU device, in which
case the whole SPEC is passed on untouched.  For a short name, the backend's own keys (see BACKEND_KEYS)
make the backend; every other key is a property of the device: `rng,file=/path,vectors=0`.
"""

from pathlib import Path

from guest.errors import UserError

# Short name to QEMU device.
DEVICES = {
    "rng": "virtio-rng-pci",
    "blk": "virtio-blk-pci",
    "net": "virtio-net-pci",
    "balloon": "virtio-balloon-pci",
    "serial": "virtio-serial-pci",
}

# Keys that go to the backend of a short name.
BACKEND_KEYS = {
    "rng": {"file"},
    "blk": {"file", "size", "driver"},
    "net": {"netdev"},
    "balloon": set(),
    "serial": set(),
}

DEFAULT = ("rng", "blk", "net", "balloon", "serial")

SCRATCH_SIZE = "64M"


class Builder:
    """Collects QEMU arguments; scratch disks are made in WORK, which the caller removes."""

    def __init__(self, work: Path) -> None:
        self.args: list[str] = []
        self._work = work
        self._count: dict[str, int] = {}

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
            properties.insert(0, f"id={name}{number}")
        properties = self._backend(name, number, backend) + properties
        self.args += ["-device", ",".join([DEVICES[name], *properties])]

    def _backend(self, name: str, number: int, keys: dict[str, str]) -> list[str]:
        """Arguments of the backend; returns the device properties that name it."""
        match name:
            case "rng":
                return self._rng(number, keys)
            case "blk":
                return self._blk(number, keys)
            case "net":
                netdev = keys.get("netdev", "user")
                self.args += ["-netdev", f"{netdev},id=netdev{number}"]
                return [f"netdev=netdev{number}"]
            case _:
                return []

    def _rng(self, number: int, keys: dict[str, str]) -> list[str]:
        if "file" not in keys:
            return []
        if not Path(keys["file"]).exists():
            raise UserError(f"--device rng,file={keys['file']}: there is no such file.")
        self.args += ["-object", f"rng-random,id=entropy{number},filename={keys['file']}"]
        return [f"rng=entropy{number}"]

    def _blk(self, number: int, keys: dict[str, str]) -> list[str]:
        node = f"disk{number}"
        if keys.get("driver") == "null-co":
            size = keys.get("size", SCRATCH_SIZE)
            self.args += ["-blockdev", f"driver=null-co,node-name={node},read-zeroes=on,size={size}"]
            return [f"drive={node}"]
        path = Path(keys["file"]) if "file" in keys else self._scratch(number, keys.get("size", SCRATCH_SIZE))
        if not path.exists():
            raise UserError(f"--device blk,file={path}: there is no such file.")
        self.args += ["-blockdev", f"driver=raw,node-name={node},file.driver=file,file.filename={path}"]
        return [f"drive={node}"]

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
