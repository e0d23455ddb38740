"""Runs a command of a process: how it starts, and the exit code and message with which it ends."""

import sys
from collections.abc import Callable
from typing import NoReturn

from exsearch.core.messages import printable, show_messages
from exsearch.core.trouble import as_user_error
from exsearch.processes import stopping
from exsearch.processes.children import guard_others
from exsearch.processes.streams import write_any_text


def run_command(command: Callable[[], None], silent: bool = False) -> NoReturn:
    """Run `command`, then leave the process. Exit codes: 0 done, 1 failed or interrupted, 2 bad usage.

    An error that a user can mend is one line on stderr, unless `silent`, as where another process prints it.
    """

    def leave(message: str, code: int) -> NoReturn:
        if not silent:
            print(f"error: {printable(message)}", file=sys.stderr)
        stopping.leave(code)

    write_any_text()
    guard_others()
    stopping.listen()
    if not silent:
        show_messages()
    try:
        command()
        stopping.leave(0)
    except KeyboardInterrupt:
        leave(stopping.STOPPED, 1)
    except Exception as error:
        if user_error := as_user_error(error):
            leave(str(user_error), user_error.exit_code)
        if not stopping.was_asked():
            raise
        leave(stopping.STOPPED, 1)  # a library may turn an interruption during its import into another error
