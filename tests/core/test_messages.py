"""Messages of the library: shown by commands, silent where a program wants that."""

import subprocess
import sys

import pytest

from exsearch.core.messages import logger, show_messages


def run(program: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_a_command_shows_notes_and_warnings_once_on_stderr() -> None:
    program = (
        "import logging; logging.basicConfig()\n"  # as some libraries do
        "from exsearch.core.messages import logger, show_messages\n"
        "show_messages(); show_messages()\n"
        "logger.info('100% note'); logger.warning('warning')"
    )
    assert run(program) == ("", "100% note\nwarning\n")


def test_a_program_sees_warnings_and_can_switch_them_off() -> None:
    say = "from exsearch.core.messages import logger\nlogger.info('note')\nlogger.warning('warning')"
    assert run(say) == ("", "warning\n")
    assert run(f"import logging; logging.getLogger('exsearch').setLevel(logging.ERROR)\n{say}") == ("", "")


def test_messages_go_where_stderr_is_at_that_moment(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages()
    logger.warning("now")
    assert capsys.readouterr().err == "now\n"
