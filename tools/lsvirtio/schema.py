# SPDX-License-Identifier: GPL-2.0
"""Whether what lsvirtio prints is what its schema says, for the tests."""

import json
import subprocess
from pathlib import Path

from guest import pytools

SCHEMA = Path(__file__).resolve().parent / "lsvirtio.schema.json"
_CHECK = """
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for line in sys.stdin:
    errors = validator.iter_errors(json.loads(line))
    found = ["/".join(map(str, error.absolute_path)) + ": " + error.message for error in errors]
    print(json.dumps(found), flush=True)
"""


class Validator:
    """The schema in a process of its own, since its library is not for everybody."""

    def __init__(self) -> None:
        python = str(pytools.directory("schema") / "python")
        command = [python, "-c", _CHECK, str(SCHEMA)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def errors(self, report: object) -> list[str]:
        """What is wrong with REPORT, a sentence each."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(report)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the schema cannot be applied: see above")
        found: list[str] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
