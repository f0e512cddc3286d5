"""What Sphinx, MyST-NB and the theme do not do by themselves: a picture in a notebook's
output has the words that were stored with it, what unfolds in the menu has a name, and
who runs a notebook elsewhere gets the copy without results.
"""

from collections.abc import Callable

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx

from tools.web import live
from tools.web.repository import BRANCH, COLAB

UNNAMED = '<summary><span class="toctree-toggle" role="presentation">'
NAMED = UNNAMED.replace("<summary>", '<summary aria-label="its notebooks">')

_render_image = NbElementRenderer.render_image


def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
    """The picture, with its alt text; without one it is a warning, so an error."""
    rendered = _render_image(self, data)
    alt = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    if not alt:
        self.logger.warning("a picture without words", subtype="alt", line=data.line)
    for node in rendered:
        node["alt"] = " ".join(alt.split())
    if place := live.address(alt):
        rendered.append(nodes.raw(text=live.element(place, "../"), format="html"))
    return rendered


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    NbElementRenderer.render_image = render_image
    app.add_config_value("course_writes", False, "html")
    app.connect("html-page-context", add_facts, priority=900)  # after the theme's
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_facts(
    app: Sphinx, _page: str, _template: str, context: dict, _: object
) -> None:
    """What the templates in site/templates ask."""
    context["writes"] = app.config.course_writes
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = without_results(button["url"])
    if "generate_toctree_html" in context:
        context["generate_toctree_html"] = named(context["generate_toctree_html"])


def named(menu: Callable) -> Callable:
    """The theme's function for a menu, with a name for each part that unfolds."""
    return lambda *args, **options: str(menu(*args, **options)).replace(UNNAMED, NAMED)


def without_results(address: str) -> str:
    """Where a launcher finds the copy of a notebook that a learner is to run: in the
    branch for Colab; on Binder in the folder that binder/postBuild lays.

    >>> without_results("https://colab.example/github/o/n/blob/main/notebooks/a.ipynb")
    'https://colab.example/github/o/n/blob/colab/notebooks/a.ipynb'
    >>> without_results("https://b.example/gh/o/n/main?urlpath=lab/tree/notebooks/a")
    'https://b.example/gh/o/n/main?urlpath=lab/tree/workspace/a'
    """
    in_colab = address.replace(f"/blob/{BRANCH}/", f"/blob/{COLAB}/")
    return in_colab.replace("lab/tree/notebooks/", "lab/tree/workspace/")
