"""What Sphinx and MyST-NB do not do by themselves: a picture in a notebook's output has
the words that were stored with it."""

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx

_render_image = NbElementRenderer.render_image


def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
    """The picture, with its alt text; without one it is a warning, so an error."""
    rendered = _render_image(self, data)
    alt = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    if not alt:
        self.logger.warning("a picture without words", subtype="alt", line=data.line)
    for node in rendered:
        node["alt"] = " ".join(alt.split())
    return rendered


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    NbElementRenderer.render_image = render_image
    app.add_config_value("course_writes", False, "html")
    app.connect("html-page-context", add_facts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_facts(
    app: Sphinx, _page: str, _template: str, context: dict, _: object
) -> None:
    """What the templates in site/templates ask."""
    context["writes"] = app.config.course_writes
