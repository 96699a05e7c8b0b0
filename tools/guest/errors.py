# SPDX-License-Identifier: GPL-2.0
"""The one exception that carries a sentence for the user, and the exit codes of a guest run."""

EXIT_TIMEOUT = 124
EXIT_SICK = 125
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something the user can mend; its text is one clear sentence, printed without a traceback."""
