"""Sphinx's settings for the course on the web; `tools/web/pages.py` lays the pages and
starts it. Nothing here may ask a network for anything, nor may a page that is built.
"""

import os

from tools.web.repository import BRANCH, at_forge, repository

project = "Pruning neural networks, measured"
author = "the authors of the pruning course"
copyright = "2026, the authors of the pruning course. Text and figures: CC BY 4.0"
language = "en"

extensions = ["myst_nb", "tools.web.extension"]
root_doc = "course"
exclude_patterns = ["**/.ipynb_checkpoints"]
templates_path = [os.environ["COURSE_SITE"] + "/templates"]
nitpicky = True

# Notebooks as they were built: nothing is run, and what is a widget in JupyterLab is
# the picture, or the text, that was stored beside it.
nb_execution_mode = "off"
nb_mime_priority_overrides = [
    ("html", "image/png", 0),
    ("html", "text/html", 1),
    ("html", "text/plain", 2),
]
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [os.environ["COURSE_SITE"] + "/static"]
html_favicon = html_static_path[0] + "/icon.svg"
html_context = {"default_mode": "auto"}
html_css_files = ["icons.css", "course.css"]
html_js_files = [
    # before anything is painted: what is to stay shut is never seen open
    ("early.js", {"priority": 100}),
    ("course.js", {"type": "module"}),
]
html_sourcelink_suffix = ""
html_show_sphinx = False
html_use_index = False  # the glossary is the index
html_last_updated_fmt = None
html_sidebars = {
    "**": [
        "home.html",
        "exhibits.html",
        "search-button-field.html",
        "sbt-sidebar-nav.html",
    ]
}
html_theme_options = {
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "use_fullscreen_button": False,
    "use_download_button": True,
    # the two styles whose colours are far enough from their ground
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Where the course is published, if that is said, with its launchers.
if repository():
    html_theme_options |= {
        "repository_url": at_forge(),
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }
