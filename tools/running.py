"""How a command ends: what goes wrong in a known way is one sentence."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from tools.start.files import STOPPED, StartError, os_problem, ready_streams
from utils.files import DamagedFileError

Result = TypeVar("Result")


@contextlib.contextmanager
def in_a_sentence() -> Iterator[None]:
    """End the process with a sentence where it cannot go on, or is stopped."""
    try:
        yield
    except (StartError, DamagedFileError) as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(130)


def run(command: Callable[[], Result]) -> Result:
    """What a command of a class gives. There a value that makes no sense, or a file
    that cannot be had, is somebody's input, too."""
    ready_streams()
    with in_a_sentence():
        try:
            return command()
        except ValueError as problem:
            sys.exit(str(problem))
        except OSError as error:
            sys.exit(os_problem(error))
