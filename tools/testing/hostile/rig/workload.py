# SPDX-License-Identifier: GPL-2.0
"""What a guest does with the lying device, and what that says about its driver."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rig.scenario import Case
from rig.session import Session
from rig.verdict import CORRUPTION, LOST, SURVIVED, Verdict

# Longer than any deadline of the drivers, on a slow guest.
STEP_SECONDS = 120.0
RNG_BYTES = 6144
# Called when a round is about to begin, with its number counted from 0; and with AFTER when all lies are to end.
AFTER = -1
Hook = Callable[[int], None]


@dataclass(frozen=True)
class Round:
    """One go of the workload: did it work, and were there bytes that nobody wrote?"""

    worked: bool
    foreign: int
    detail: str


def rng_round(session: Session, case: Case, _slot: str, _number: int) -> Round:
    """Read from the entropy device."""
    size = int(case.scenario.options.get("bytes", RNG_BYTES))
    words = session.do(f"rng_read {size}", STEP_SECONDS).words("read")
    status, count, foreign = (int(word) for word in words[:3])
    return Round(status == 0 and count == size, foreign, f"status {status}, {count} bytes")


def blk_round(session: Session, case: Case, slot: str, number: int) -> Round:
    """Write to the disk and read it back."""
    many = case.scenario.options.get("readers", 1) > 1
    command = f"blk_many {slot}" if many else f"blk_io {slot} {number}"
    words = session.do(command, STEP_SECONDS).words("blk")
    wrote, got, different = (int(word) for word in words[:3])
    return Round(wrote == 0 and got == 0 and not different, different, f"write {wrote}, read {got}")


def net_round(session: Session, _case: Case, slot: str, _number: int) -> Round:
    """Ping the device."""
    status = int(session.do(f"net_ping {slot}", STEP_SECONDS).words("net")[0])
    return Round(status == 0, 0, f"ping {status}")


DRIVERS = {"rng": "virtio_rng", "blk": "virtio_blk", "net": "virtio_net"}
ROUNDS = {"rng": rng_round, "blk": blk_round, "net": net_round}
FOREIGN = {"rng": "{} bytes that no device wrote", "blk": "what was read is not what was written"}


def run(session: Session, case: Case, slot: str, before: Hook) -> Verdict:
    """Bind the device of CASE at SLOT, use it, unbind it, bind and use it once more."""
    driver = DRIVERS[case.scenario.device]
    one_round = ROUNDS[case.scenario.device]
    begin = time.monotonic()
    bound = "bound" in session.do(f"bind {driver} {slot}", STEP_SECONDS).text
    rounds: list[Round] = []
    clear = time.monotonic() - begin
    if bound:
        for number in range(int(case.scenario.options.get("rounds", 2))):
            before(number)
            rounds.append(one_round(session, case, slot, number))
            if rounds[-1].worked and not rounds[0].worked:
                break
        clear = time.monotonic() - begin
    session.do(f"unbind {driver} {slot}", STEP_SECONDS)
    before(AFTER)
    after, foreign = "", sum(one.foreign for one in rounds)
    if case.scenario.options.get("again", True):
        again = "bound" in session.do(f"bind {driver} {slot}", STEP_SECONDS).text
        last = one_round(session, case, slot, len(rounds)) if again else Round(False, 0, "not bound")
        session.do(f"unbind {driver} {slot}", STEP_SECONDS)
        foreign += last.foreign
        after = "; works when bound again" if last.worked else f"; bound again: {last.detail}"
        if case.scenario.options.get("returns") and not last.worked and not foreign:
            return Verdict(LOST, f"an honest device, bound again, does not work: {last.detail}", clear)
    if foreign:
        return Verdict(CORRUPTION, FOREIGN[case.scenario.device].format(foreign), clear)
    if not bound:
        way, detail = "failed", "probe refused"
    elif all(one.worked for one in rounds):
        way, detail = "unaffected", ""
    elif any(one.worked for one in rounds):
        way, detail = "recovered", f"first: {next(one.detail for one in rounds if not one.worked)}"
    else:
        way, detail = "failed", rounds[-1].detail
    return Verdict(SURVIVED, "" if way == "unaffected" else detail + after, clear, way)
