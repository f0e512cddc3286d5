"""Where the course is published, as the environment says it: PRUNING_REPOSITORY."""

import os
import re

FORGE = "https://github.com/"
BRANCH = "main"
COLAB = "colab"  # the branch of the notebooks that Colab opens: `tools.web.colab`
NAMED = re.compile(r"(?:https://github\.com/)?([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def repository() -> str:
    """`owner/name` of the public repository; empty where none is named.

    Raises:
        ValueError: what is named is neither `owner/name` nor an address of one.
    """
    said = os.environ.get("PRUNING_REPOSITORY", "")
    found = NAMED.fullmatch(said)
    if said and not found:
        raise ValueError(
            f"PRUNING_REPOSITORY={said!r} must be owner/name of a repository at"
            f" {FORGE}, or its address."
        )
    return found[1] if found else ""


def at_forge(place: str = "") -> str:
    """The address of the repository, or of a place in it."""
    return f"{FORGE}{repository()}{place}"
