# SPDX-License-Identifier: GPL-2.0
"""The user's terminal, joined to the guest's shell."""

import os
import select
import sys
import termios
import tty

from guest.run import Guest


def join(guest: Guest) -> None:
    """Pass keys and output between this terminal and GUEST until its command ends."""
    saved = termios.tcgetattr(sys.stdin)
    machine = guest.machine
    try:
        tty.setraw(sys.stdin)
        while machine.status is None:
            ready, _, _ = select.select([sys.stdin, machine.channel], [], [])
            if machine.channel in ready and not machine.pump(0.1):
                return
            if sys.stdin in ready:
                machine.send(os.read(sys.stdin.fileno(), 1024))
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
