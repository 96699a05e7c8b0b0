#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Programs of XDP, and frames for them: net_xdp.py runs it in the guest.

    net_xdp.py load DIRECTORY INTERFACE
    net_xdp.py frames FROM PEER TO COUNT LENGTHS [inner]

`load` pins a program of each name below in DIRECTORY, and with `frags_` before the name one that takes packets in
several buffers; INTERFACE is where `redirect` redirects to.  `frames` sends COUNT frames of each of LENGTHS bytes, with
commas between them, from interface FROM to the Ethernet address of interface PEER, and prints of each length how many
came to interface TO, unchanged behind their addresses, before nothing did for a while.  With `inner`, each is sent in
another one, and the inner one is to come.
"""

import ctypes
import os
import socket
import struct
import sys
import time
from pathlib import Path

SYS_BPF, PROG_LOAD, OBJ_PIN = 321, 5, 6
TYPE_XDP, ATTACH_XDP, HAS_FRAGS = 6, 37, 1 << 5
ABORTED, DROP, PASS, TX = range(4)
REDIRECT, ADJUST_HEAD, ADJUST_META = 23, 44, 54
# Of the 256 bytes before a packet, some are the kernel's.
HEADROOM, METADATA, ETHERNET = 200, 32, 14
# Local experimental, of IEEE 802.
ETHERTYPE = 0x88B5
# Seconds after the last frame until no other one is expected.
QUIET = 2
BURST = 32
PACKET_OUTGOING = 4
ETH_P_ALL = 3

# Codes of instructions: moves, additions and jumps with 64 bits, loads and stores of 32 and 16.
MOV_K, MOV_X, ADD_K, JGT_X, JEQ_K, CALL, EXIT = 0xB7, 0xBF, 0x07, 0x2D, 0x15, 0x85, 0x95
LDX_W, LDX_H, STX_H = 0x61, 0x69, 0x6B


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction."""
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def ends(act: int) -> bytes:
    """Ends with a verdict."""
    return insn(MOV_K, 0, imm=act) + insn(EXIT)


def calls(helper: int, argument: int) -> bytes:
    """Drops the packet if HELPER does not take ARGUMENT; the context is in r6."""
    code = insn(MOV_X, 1, 6) + insn(MOV_K, 2, imm=argument) + insn(CALL, imm=helper)
    return code + insn(JEQ_K, 0, off=2, imm=0) + ends(DROP)


def swaps() -> bytes:
    """Sends a packet back to where it is from."""
    code = insn(LDX_W, 2, 1, 0) + insn(LDX_W, 3, 1, 4) + insn(MOV_X, 4, 2) + insn(ADD_K, 4, imm=ETHERNET)
    body = b""
    for at in range(0, 6, 2):
        body += insn(LDX_H, 4, 2, at) + insn(LDX_H, 5, 2, at + 6) + insn(STX_H, 2, 4, at + 6) + insn(STX_H, 2, 5, at)
    body += ends(TX)
    return code + insn(JGT_X, 4, 3, off=len(body) // 8) + body + ends(DROP)


def programs(interface: int) -> dict[str, bytes]:
    """All of them, by name."""
    keep = insn(MOV_X, 6, 1)
    return {
        "pass": ends(PASS),
        "drop": ends(DROP),
        "aborted": ends(ABORTED),
        "invalid": ends(77),
        "tx": swaps(),
        "redirect": insn(MOV_K, 1, imm=interface) + insn(MOV_K, 2) + insn(CALL, imm=REDIRECT) + insn(EXIT),
        # There is that much room before a packet, and for metadata.
        "room": keep + calls(ADJUST_HEAD, -HEADROOM) + calls(ADJUST_HEAD, HEADROOM) + ends(PASS),
        "metadata": keep + calls(ADJUST_META, -METADATA) + ends(PASS),
        # Without its first Ethernet header.
        "strip": keep + calls(ADJUST_HEAD, ETHERNET) + ends(PASS),
    }


def bpf(command: int, attributes: bytes) -> int:
    """The system call."""
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(SYS_BPF, command, attributes, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def load(directory: Path, interface: str) -> None:
    """Pin all programs in DIRECTORY."""
    gpl = ctypes.create_string_buffer(b"GPL")
    for name, code in programs(socket.if_nametoindex(interface)).items():
        for prefix, flags in (("", 0), ("frags_", HAS_FRAGS)):
            text = ctypes.create_string_buffer(code, len(code))
            head = struct.pack("<IIQQ", TYPE_XDP, len(code) // 8, ctypes.addressof(text), ctypes.addressof(gpl))
            rest = struct.pack("<IIQII16sII", 0, 0, 0, 0, flags, name.encode(), 0, ATTACH_XDP)
            program = bpf(PROG_LOAD, head + rest)
            path = ctypes.create_string_buffer(str(directory / (prefix + name)).encode())
            bpf(OBJ_PIN, struct.pack("<QII", ctypes.addressof(path), program, 0))
            os.close(program)


def address(interface: str) -> bytes:
    """The Ethernet address of an interface."""
    text = Path(f"/sys/class/net/{interface}/address").read_text(encoding="ascii")
    return bytes.fromhex(text.strip().replace(":", ""))


def opened(interface: str) -> socket.socket:
    """A socket that has all frames of an interface."""
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    one.bind((interface, ETH_P_ALL))
    one.setblocking(False)
    return one


def bodies_of(count: int, length: int) -> dict[bytes, int]:
    """COUNT frames of LENGTH bytes, behind their headers."""
    size = length - ETHERNET - 4
    return {
        struct.pack("!I", number) + bytes(at * 7 + number & 0xFF for at in range(size)): number
        for number in range(count)
    }


def frames(sender: str, receiver: str, bodies: dict[bytes, int], header: bytes, outer: bytes) -> int:
    """How many of BODIES come over the wire: HEADER is before each, and OUTER before that."""
    came: set[int] = set()
    last = time.monotonic()

    def look() -> None:
        nonlocal last
        while True:
            try:
                frame, where = back.recvfrom(1 << 16)
            except BlockingIOError:
                return
            number = bodies.get(frame[ETHERNET:])
            if where[2] != PACKET_OUTGOING and frame[12:ETHERNET] == header[12:] and number is not None:
                came.add(number)
                last = time.monotonic()

    with opened(sender) as out, opened(receiver) as back:
        for body, number in bodies.items():
            while True:
                try:
                    out.send(outer + header + body)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
            if number % BURST == BURST - 1:
                time.sleep(0.01)
                look()
        last = time.monotonic()
        while len(came) < len(bodies) and time.monotonic() - last < QUIET:
            time.sleep(0.02)
            look()
    return len(came)


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    if arguments[0] == "load":
        load(Path(arguments[1]), arguments[2])
        return
    sender, peer, receiver, count, lengths, *inner = arguments[1:]
    header = address(peer) + address(sender) + struct.pack("!H", ETHERTYPE)
    for length in lengths.split(","):
        bodies = bodies_of(int(count), int(length))
        print(frames(sender, receiver, bodies, header, header if inner else b""))


if __name__ == "__main__":
    main(sys.argv[1:])
