"""One page for the teacher of a class, from the learners' files: who finished what,
what was often wrong, guesses against measurements as a picture for the lecture, and the
capstone's ranking. Nothing is sent anywhere.

The folder of a class is nbgrader's course folder: `submitted/<learner>/...` and, where
there is one, `gradebook.db`. Two classes are two folders.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.classroom import gradebook, guessed, handed_in, names, ranking, sections
from tools.classroom.folder import (
    GRADEBOOK,
    add_folder_option,
    chosen_folder,
    is_learner,
)
from tools.classroom.gradebook import GradebookError, Points
from tools.classroom.handed_in import Learner, Skipped
from tools.classroom.standing import standings
from tools.running import run
from tools.start.files import StartError
from utils import progress
from utils.files import folder_named, write_atomically
from utils.progress import rows

# which page shows whom: pseudonyms can be projected, so they are what comes unasked;
# real names lie in a file of another name, which nobody opens in a lecture by mistake
PAGES = {
    "pseudonyms": "class.html",
    "none": "class_without_names.html",
    "real": "class_real_names.html",
}
TOP = {
    "pseudonyms": "Learners stand here under the pseudonyms of names.csv, which the"
    " teacher edits.",
    "none": "No learner is named here.",
    "real": "This page has real names: it is for the teacher, and not to be projected.",
}


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """What stands on the command line."""
    parser = argparse.ArgumentParser(prog="make class", description=__doc__)
    add_folder_option(parser)
    parser.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="FOLDER",
        help="read FOLDER/<learner>/... instead of what was collected",
    )
    parser.add_argument(
        "--names",
        choices=list(PAGES),
        default="pseudonyms",
        help="whom the page shows: pseudonyms (default), real names, or nobody",
    )
    parser.add_argument(
        "--new-names",
        action="store_true",
        help="draw pseudonyms for learners without a line in names.csv",
    )
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> list[str]:
    """Write the page; what is to be said of it, by line.

    Raises:
        StartError: there is nobody, or a file of the teacher's is not what it must be.
        OSError: it cannot be written.
    """
    folder, source = places(options)
    learners, skipped = handed_in.read_class(source)
    points, more = read_points(folder, bool(options.source), learners)
    skipped += more
    learners = with_graded(learners, points)
    if not learners:
        raise StartError(
            f"No learner is in {source} yet: there must be a folder for each, as"
            " nbgrader collects them, or name another with --from."
        )
    pseudonyms = names.of_class(
        folder, [one.name for one in learners], more=options.new_names
    )
    content, more = class_of(options.names, learners, pseudonyms, points, skipped)
    path = folder / PAGES[options.names]
    write_atomically(path, page(content, options.names).encode("utf-8", "replace"))
    return [*more, f"Written: {path} ({len(learners)} learners)."]


def places(options: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of the class, and the one with the learners' folders.

    Raises:
        StartError: one of them leads nowhere.
    """
    chosen = chosen_folder(options)
    if not options.source:
        return chosen.path, chosen.submitted
    try:
        return chosen.path, folder_named("--from", options.source)
    except ValueError as error:
        raise StartError(str(error)) from None


def read_points(
    folder: Path, elsewhere: bool, learners: Sequence[Learner]
) -> tuple[Points | None, list[Skipped]]:
    """Points from the gradebook; None without one. Of those who are read from elsewhere
    only: others of it may be another class."""
    path = folder / GRADEBOOK
    if not path.is_file():
        return None, []
    try:
        found = gradebook.points(path, [row.lesson for row in rows({})])
    except GradebookError as error:
        why = f"it cannot be read as a gradebook ({handed_in.shown(str(error))})"
        return None, [Skipped("", GRADEBOOK, why)]
    here = {one.name for one in learners}
    kept = {
        key: value for key, value in found.items() if key[0] in here or not elsewhere
    }
    return kept, []


def with_graded(learners: list[Learner], points: Points | None) -> list[Learner]:
    """With those who are in the gradebook and have no folder."""
    here = {one.name for one in learners}
    others = {name for name, _ in points or {}} - here
    named = [Learner(name) for name in others if is_learner(name)]
    return sorted([*learners, *named], key=lambda one: one.name)


def class_of(
    whom: str,
    learners: list[Learner],
    pseudonyms: dict[str, str],
    points: Points | None,
    skipped: Sequence[Skipped],
) -> tuple[sections.Class, list[str]]:
    """The class as the page shows it, and what is to be said to the teacher."""
    given = {
        one.name: pseudonyms[one.name] for one in learners if pseudonyms.get(one.name)
    }
    real = {one.name: one.name for one in learners}
    labels = {"pseudonyms": given, "none": {}, "real": real}[whom]
    ranked = {
        "pseudonyms": given,
        "none": dict.fromkeys(given, ""),
        "real": {name: f"{name} ({other})" for name, other in given.items()},
    }[whom]
    ranks, more = ranking.ranking(learners)
    skipped = [*skipped, *more]
    questions, unknown = guessed.questions(learners)
    content = sections.Class(
        standings=standings(learners),
        labels=labels,
        ranked=ranked,
        paths=whom == "real",
        points=points,
        guesses=questions,
        unknown=unknown,
        places=ranks,
        skipped=skipped,
    )
    said = [f"Skipped: {each.path}: {each.why}." for each in skipped]
    missing = [one.name for one in learners if one.name not in pseudonyms]
    if missing:
        said.append(
            f"Not in {names.FILE}, so in no ranking: {', '.join(missing)}. Add a line"
            " for each, or draw pseudonyms with --new-names."
        )
    return content, said


def page(content: sections.Class, whom: str) -> str:
    """The whole page."""
    count = len(content.standings)
    day = time.strftime("%Y-%m-%d")
    about = [f"{count} learner{'s' if count > 1 else ''}, {day}. {TOP[whom]}"]
    return progress.PAGE.format(
        title="The class", style=sections.STYLE, body=sections.body(content, about)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page; what goes wrong in a known way is one sentence."""
    options = read_arguments(sys.argv[1:] if arguments is None else arguments)
    run(lambda: print("\n".join(build(options))))


if __name__ == "__main__":
    main()
