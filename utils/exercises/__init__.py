"""The exercises of the labs: for each its check, and the function of `utils` that
stands in while it is untouched.

One module a lab. A check calls the learner's function on small inputs and raises
`WrongAnswer` with the number that shows what is wrong, for the mistakes people really
make.
"""

from utils.exercises import (
    lab00,
    lab01,
    lab02,
    lab03,
    lab04,
    lab05,
    lab06,
    lab07,
    lab08,
    lab09,
    lab10,
    lab11,
    lab12,
)
from utils.exercises.exercise import Exercise

LABS = (
    lab00,
    lab01,
    lab02,
    lab03,
    lab04,
    lab05,
    lab06,
    lab07,
    lab08,
    lab09,
    lab10,
    lab11,
    lab12,
)
EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise for module in LABS for exercise in module.EXERCISES
}
