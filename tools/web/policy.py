"""The Content-Security-Policy of the pages that Sphinx builds: a browser runs what
comes from the site itself, and nothing that somebody wrote into a page.

The theme has short scripts in its pages. Each is allowed by its sha256, and so is its
one style for readers without scripts; `'unsafe-inline'` stands nowhere. What a browser
would run out of an attribute becomes a mark, for which site/static/course.js listens.
"""

import base64
import hashlib
import re

META = '<meta http-equiv="Content-Security-Policy" content="{}">'
CHARSET = re.compile(r'<meta charset="utf-8" ?/?>')
SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL)
STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>", re.DOTALL)
NOT_RUN = re.compile(r'\b(?:src=|type="application/json")')
PRINTS = 'onclick="window.print()"'
# what the pages need, besides the scripts and styles that stand in them
RULES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",  # the theme draws its arrows in its style sheet
    "connect-src": "'self'",  # the search reads the pages that it found
    "frame-src": "'self'",  # a panel that runs in the place of its picture
    "base-uri": "'none'",
    "form-action": "'self'",
}


def digest(content: str) -> str:
    """A script or a style as a policy names it.

    >>> digest("early()")
    "'sha256-G2Y/0fpEoq/QMzbid/byF0KE5sX9e6ar19Om2+xoMnU='"
    """
    content = content.replace("\r\n", "\n")  # as a browser reads it
    found = base64.b64encode(hashlib.sha256(content.encode()).digest())
    return f"'sha256-{found.decode()}'"


def with_policy(text: str) -> str:
    """A page whose policy allows what stands in it, and no more.

    Raises:
        ValueError: the page does not say its encoding, before which no policy stands.
    """
    text = text.replace(PRINTS, "data-prints")
    scripts = [said for kind, said in SCRIPT.findall(text) if not NOT_RUN.search(kind)]
    inline = {"script-src": scripts, "style-src": STYLE.findall(text)}
    rules = [
        " ".join([name, allowed, *map(digest, dict.fromkeys(inline.get(name, ())))])
        for name, allowed in RULES.items()
    ]
    meta = META.format("; ".join(rules))
    text, count = CHARSET.subn(lambda found: f"{found[0]}\n{meta}", text, count=1)
    if not count:
        raise ValueError("a page does not say that it is in UTF-8.")
    return text
