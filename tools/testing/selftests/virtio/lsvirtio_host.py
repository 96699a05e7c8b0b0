#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""lsvirtio and virtio-report in a guest: what they say is what is there, with the Rust stack, the C stack and mixtures.

# guest *: --root full --timeout 600
# guest release: --kernel release
# long packed: --kernel release --qemu "-global virtio-device.packed=on"
# long intx: --kernel release --append vectors=0
# guest c-stack: --kernel release --stack c
# long c-transport: --kernel release --swap virtio_pci=c
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from guest import kernel, ksft, paths
from guest.ksft import Shell
from guest.run import Config, Guest
from lsvirtio import lsvirtio
from lsvirtio.lsvirtio import Json
from lsvirtio.schema import Validator

TOOLS = paths.TOP / "tools/lsvirtio"
LSVIRTIO = "python3 /tools/lsvirtio.py"
# Nobody in particular.
USER = "setpriv --reuid 65534 --clear-groups"
DEVICES = {"block": "virtio_blk", "net": "virtio_net", "rng": "virtio_rng", "balloon": "virtio_balloon"}
UAPI = {3: "console", 8: "scsi", 16: "gpu", 17: "rtc", 19: "vsock", 23: "iommu", 24: "mem", 27: "pmem", 32: "scmi"}
UAPI |= {34: "i2c", 36: "can", 40: "bt", 41: "gpio"}
# VIRTIO_NET_F_MAC.
FILTERED = 5


@dataclass
class World:
    """A guest, what is true of it, and the judge of what is said."""

    shell: Shell
    choice: dict[str, str]
    validator: Validator

    @functools.cached_property
    def first(self) -> Json:
        """What lsvirtio says of a machine that rests."""
        return self.report()

    @property
    def core_is_rust(self) -> bool:
        """Whether the core has the table of queues."""
        return self.choice["virtio"] == "rust"

    def report(self, arguments: str = "", prefix: str = "") -> Json:
        """What lsvirtio says, which must be what its schema says."""
        text = self.shell(f"{prefix} {LSVIRTIO} --json {arguments}")
        report: Json = json.loads(text)
        wrong = self.validator.errors(report)
        assert not wrong, wrong
        return report

    def device(self, kind: str) -> Json:
        """The device of type KIND."""
        return of_type(self.report(), kind)


def of_type(report: Json, kind: str) -> Json:
    """The device of type KIND in REPORT."""
    (found,) = (device for device in report["devices"] if device["type"]["name"] == kind)
    assert isinstance(found, dict)
    return found


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with four devices; afterwards its console shows nothing bad."""
    vectors = ",vectors=0" if "vectors=0" in config.append else ""
    config.default_devices = False
    config.devices = [f"blk,num-queues=2{vectors}", f"net{vectors}", f"rng{vectors}", "balloon"]
    config.append = [*config.append, "net.ifnames=0"]
    config.files = {"tools": TOOLS}
    Shell.prepare(config)
    with contextlib.closing(Validator()) as validator, Guest(config) as guest:
        shell = Shell(guest)
        shell.wait('[ "$(ls -d /sys/bus/virtio/devices/*/driver | wc -l)" = 4 ]', 60)
        yield World(shell, guest.selection.choice, validator)
        shell.start("exit")
        ksft.passed(guest)


def names_are_those_of_the_kernel(world: World) -> None:
    """The features of types that rust/virtio_spec does not have are those of the kernel's headers."""
    del world
    headers = kernel.source() / "include/uapi/linux"
    for type_, name in UAPI.items():
        prefix = f"VIRTIO_{name.upper()}_F_"
        text = (headers / f"virtio_{name}.h").read_text()
        theirs = {
            int(bit): text for text, bit in re.findall(rf"^#define\s+({prefix}\w+)\s+(\d+)\b", text, re.MULTILINE)
        }
        assert lsvirtio.FEATURES[type_] == theirs, f"{name}: {theirs}"
    assert set(lsvirtio.FEATURES) == {*UAPI, 1, 2, 5}
    with_features = {path.stem for path in headers.glob("virtio_*.h") if re.search(r"VIRTIO_\w+_F_", path.read_text())}
    print(f"# headers with features: {' '.join(sorted(with_features))}")


def whose_drivers_they_are(world: World) -> None:
    """Each module is said to be in the language that was chosen for the guest."""
    report = world.first
    said = {module["name"]: module["language"] for module in report["core"]}
    for device in report["devices"]:
        for driver in (device["driver"], device["transport"]["driver"]):
            said[driver["module"]["name"]] = driver["module"]["language"]
    assert said == {name: world.choice[name] for name in said}, said
    assert set(said) == {"virtio", "virtio_ring", "virtio_pci", *DEVICES.values()}, said


def what_the_devices_are(world: World) -> None:
    """Type, address, status, interface."""
    report = world.first
    assert report["kernel"] == world.shell("uname -r")
    assert {d["type"]["name"]: d["driver"]["name"] for d in report["devices"]} == DEVICES
    for device in report["devices"]:
        name, transport = device["name"], device["transport"]
        where = world.shell(f"basename $(dirname $(readlink -f /sys/bus/virtio/devices/{name}))")
        assert (transport["bus"], transport["device"], transport["interface"]) == ("pci", where, "modern"), transport
        assert device["status"]["state"] == "ready"
        assert device["status"]["value"] == int(world.shell(f"cat /sys/bus/virtio/devices/{name}/status"), 16)
    interfaces = [of_type(world.first, kind)["interfaces"] for kind in ("block", "net")]
    assert interfaces == [["vda"], ["eth0"]], interfaces


def features_have_names(world: World) -> None:
    """What is offered is accepted or refused, and every bit of these devices has a name."""
    for device in world.first["devices"]:
        features = device["features"]
        bits = {key: [feature["bit"] for feature in features[key]] for key in features}
        string = world.shell(f"cat /sys/bus/virtio/devices/{device['name']}/features")
        assert bits["accepted"] == [bit for bit, digit in enumerate(string) if digit == "1"], bits
        offered = world.shell(f"cat /sys/kernel/debug/virtio/{device['name']}/device_features")
        assert bits["offered"] == [int(bit) for bit in offered.split()], bits
        assert sorted(bits["accepted"] + bits["refused"]) == bits["offered"], bits
        nameless = [feature for feature in features["offered"] if feature["name"] is None]
        # QEMU still offers this one of a draft.
        assert all(feature["bit"] == 30 for feature in nameless), nameless
        assert features["filtered"] == []


def queues_are_those_of_debugfs(world: World) -> None:
    """The table of the Rust core, or what the C core lets one know."""
    for device in world.first["devices"]:
        name = device["name"]
        if not world.core_is_rust:
            known = [
                queue["index"] is not None or queue["size"] or queue["counters"] for queue in device["queues"] or []
            ]
            assert not any(known), device["queues"]
            assert any("queues" in item["what"] for item in device["unknown"]), device["unknown"]
            continue
        header, *rows = world.shell(f"cat /sys/kernel/debug/virtio/{name}/queues").splitlines()
        theirs = [dict(zip(header.split(), row.split(), strict=True)) for row in rows]
        ours = [(str(q["index"]), q["name"] or "-", str(q["size"]), q["layout"]) for q in device["queues"]]
        assert ours == [(q["index"], q["name"], q["size"], q["layout"]) for q in theirs], ours
        assert not any(queue["broken"] for queue in device["queues"])
        assert not any("queue" in item["what"] for item in device["unknown"]), device["unknown"]
        assert isinstance(device["statistics"], list)


def counters_grow(world: World) -> None:
    """What is read from the disk is counted in its queues; the C core counts nothing."""
    if not world.core_is_rust:
        queues = [queue for device in world.first["devices"] for queue in device["queues"] or []]
        assert all(queue["counters"] is None for queue in queues), queues
        return
    world.shell("dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct status=none")
    used = [
        sum(queue["counters"]["used"] for queue in of_type(report, "block")["queues"])
        for report in (world.first, world.report())
    ]
    assert used[1] >= used[0] + 64, used


def vectors_are_those_of_the_kernel(world: World) -> None:
    """Number, name and count of each interrupt; each queue with one has its own, or a shared one."""
    world.shell("dd if=/dev/vda of=/dev/null bs=4k count=8 iflag=direct status=none")
    before, devices = interrupts(world), world.report()["devices"]
    after = interrupts(world)
    said = {(vector["irq"], vector["name"]): vector["interrupts"] for d in devices for vector in d["vectors"]}
    assert said.keys() == before.keys(), (said, before)
    wrong = {key: count for key, count in said.items() if not before[key] <= count <= after[key]}
    assert not wrong, (wrong, before, after)
    (disk,) = (device for device in devices if device["type"]["name"] == "block")
    assert any(vector["interrupts"] for vector in disk["vectors"])
    if len(disk["vectors"]) > 2:
        queues = {queue["name"]: queue["vector"]["irq"] for queue in disk["queues"]}
        named = {vector["name"].removeprefix(f"{disk['name']}-"): vector["irq"] for vector in disk["vectors"]}
        assert queues == {name: irq for name, irq in named.items() if name != "config"}, (queues, named)
        served = sorted(cpu for queue in disk["queues"] for cpu in queue["serves_cpus"])
        assert served == [0, 1], disk["queues"]
    elif disk["queues"] is not None:
        assert all(queue["vector"]["shared"] for queue in disk["queues"]), disk["queues"]


def interrupts(world: World) -> dict[tuple[int, str], int]:
    """The interrupts of virtio devices in /proc/interrupts, and how often each came."""
    found = {}
    for line in world.shell("grep virtio /proc/interrupts").splitlines():
        number, counts, names = re.match(r"\s*(\d+):((?:\s+\d+)+)\s+\S.*?((?:virtio[\w.-]+(?:, )?)+)$", line).groups()  # type: ignore[union-attr]
        for name in names.split(", "):
            found[int(number), name] = sum(map(int, counts.split()))
    return found


def a_user_is_told_what_root_would_see(world: World) -> None:
    """Without debugfs the rest is the same."""
    all_, some = world.first["devices"], world.report(prefix=USER)["devices"]
    for root, user in zip(all_, some, strict=True):
        assert user["features"]["offered"] is None
        assert {item["why"] for item in user["unknown"]} == {lsvirtio.NOT_READABLE}, user["unknown"]
        for key in ("name", "type", "driver", "transport", "status", "interfaces"):
            assert root[key] == user[key], (key, root[key], user[key])


def people_can_read_it(world: World) -> None:
    """The summary has a line for each device, with the language of its driver; -v has the queues."""
    lines = world.shell(LSVIRTIO).splitlines()
    language = {"rust": "Rust", "c": "C"}
    for device in world.first["devices"]:
        (line,) = (line for line in lines if line.startswith(f"{device['name']} "))
        module = device["driver"]["module"]["name"]
        assert f"{module} ({language[world.choice[module]]})" in line, line
    text = world.shell(f"{LSVIRTIO} -v {of_type(world.first, 'net')['name']}")
    assert "VIRTIO_NET_F_MAC" in text, text
    assert not world.core_is_rust or "output.0" in text, text


def what_is_filtered_is_shown(world: World) -> None:
    """A bit that a driver does not get to see, and a device without a driver."""
    net = of_type(world.first, "net")["name"]
    driver = "/sys/bus/virtio/drivers/virtio_net"
    world.shell(f"echo {FILTERED} >/sys/kernel/debug/virtio/{net}/filter_feature_add; echo {net} >{driver}/unbind")
    alone = world.device("net")
    assert alone["driver"] is None
    assert alone["status"]["state"] == "idle", alone["status"]
    world.shell(f"echo {net} >{driver}/bind")
    found = world.device("net")["features"]
    assert [feature["name"] for feature in found["filtered"]] == ["VIRTIO_NET_F_MAC"]
    assert FILTERED in [feature["bit"] for feature in found["refused"]]


def a_report_has_it_all(world: World) -> None:
    """Every section of virtio-report, for root and for a user."""
    for prefix in ("", USER):
        text = world.shell(f"{prefix} python3 /tools/virtio_report.py")
        titles = re.findall(r"^== (.*) ==$", text, re.MULTILINE)
        assert "devices, for programs" in titles, titles
        assert len(titles) == 9, titles
        assert "Error" not in text, re.findall(".*Error.*", text)
        for_programs = text.split("== devices, for programs ==\n")[1]
        assert for_programs.startswith("{"), for_programs[:200]
        assert not world.validator.errors(json.loads(for_programs))
        for expected in ("virtio_pci", "CONFIG_VIRTIO=m", "virtio common: BAR", "vermagic", "virtio0"):
            # What is behind the first 64 bytes of a configuration space is for root.
            assert expected in text or (prefix and expected.startswith("virtio common")), expected
    text = world.shell("python3 /tools/virtio_report.py -o /tmp/report && cat /tmp/report")
    assert "[vda]" in text.split("== kernel log ==")[1].split("\n== ")[0]
    assert not world.core_is_rust or "index name size" in text.split("== debugfs ==")[1]
    assert "filter_features" in text.split("== debugfs ==")[1]
    assert not re.search("52:54:00", text)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        names_are_those_of_the_kernel,
        whose_drivers_they_are,
        what_the_devices_are,
        features_have_names,
        queues_are_those_of_debugfs,
        counters_grow,
        vectors_are_those_of_the_kernel,
        a_user_is_told_what_root_would_see,
        people_can_read_it,
        what_is_filtered_is_shown,
        a_report_has_it_all,
    )
