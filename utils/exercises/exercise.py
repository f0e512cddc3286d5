"""What an exercise is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """A function that the learner writes.

    name: of the function.  reference: the course's own, used while the stub is
        untouched.  source: where a reader
    finds it.  test: calls the learner's function; raises WrongAnswer, with a reason,
    when it is not right.
    """

    name: str
    reference: Callable
    source: str
    test: Callable[[Callable], None]
