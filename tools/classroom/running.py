"""How a command of a class runs: what goes wrong in a known way is one sentence."""

import sys
from collections.abc import Callable

from tools.start.files import StartError, os_problem, ready_streams
from utils.files import DamagedFileError


def run(command: Callable[[], None]) -> None:
    """Run a command; exit with a sentence where it cannot go on."""
    ready_streams()
    try:
        command()
    except (StartError, DamagedFileError, ValueError) as problem:
        sys.exit(str(problem))
    except OSError as error:
        sys.exit(os_problem(error))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
