# SPDX-License-Identifier: GPL-2.0
"""programs/blk_load.py of the selftests, in a guest: started, watched, and ended from here.

No test by itself: blk_life.py and blk_daemon.py use it.
"""

from guest import paths
from guest.ksft import Shell
from guest.run import Config

PROGRAM = paths.TOP / "tools/testing/selftests/virtio/programs/blk_load.py"
STATE = "/tmp/load"


class Load:
    """Programs that write to a disk all the time, and compare what they read with what they were told they wrote."""

    def __init__(self, shell: Shell, serial: str, patience: float, threads: int | None = None) -> None:
        """A load on the disk whose serial number is SERIAL; PATIENCE is how many seconds it may stand still.

        THREADS is how many requests it makes at once; the program knows how many if that does not matter.
        """
        self._shell = shell
        self._patience = patience
        self._command = f"python3 /{PROGRAM.name} {serial} {STATE} {'' if threads is None else threads}"

    @staticmethod
    def prepare(config: Config) -> None:
        """Put the program into the guest of CONFIG."""
        config.files[PROGRAM.name] = PROGRAM

    def start(self) -> None:
        """Begin, with a disk that is all zeroes."""
        self._shell(f"rm -rf {STATE}; mkdir {STATE} && echo 0 0 >{STATE}/progress")
        self._shell(f"{self._command} & echo $! >/tmp/pid")
        self.works()

    def _progress(self) -> list[int]:
        return [int(number) for number in self._shell(f"cat {STATE}/progress").split()]

    def errors(self) -> int:
        """Requests that failed so far."""
        return self._progress()[1]

    def works(self) -> None:
        """It goes on, without errors: two bursts, the first of which may have begun before."""
        more = self._progress()[0] + 2
        condition = f"[ -e {STATE}/wrong ] || [ $(cut -d ' ' -f 1 {STATE}/progress) -ge {more} ]"
        self._shell.wait(condition, self._patience)
        wrong = self._shell(f"cat {STATE}/wrong 2>/dev/null || true")
        assert not wrong, wrong

    def fails(self, seconds: float) -> None:
        """A request has failed; AssertionError if none does within SECONDS."""
        self._shell.wait(f"[ $(cut -d ' ' -f 2 {STATE}/progress) -gt 0 ]", seconds)

    def hold(self) -> None:
        """Until release(), it has the disk closed."""
        self._shell(f"touch {STATE}/hold")
        self._shell.wait(f"[ -e {STATE}/held ]", self._patience)

    def release(self) -> None:
        """It goes on."""
        self._shell(f"rm {STATE}/hold")

    def end(self) -> None:
        """End it; it compares everything once more."""
        self._shell(f"touch {STATE}/stop; wait $(cat /tmp/pid) || (cat {STATE}/wrong; false)")
