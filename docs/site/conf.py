"""How Sphinx makes the site of the documentation from the pages of the project (scripts/site)."""

project = "omidbfs"
copyright = "the authors of omidbfs"
extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = [
    f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "docs/*", "examples/README")
]
templates_path = ["templates"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
html_theme = "furo"
html_title = "omidbfs"
html_additional_pages = {"index": "redirect.html"}
html_copy_source = False
# The diagrams of the pages are shown as text, because a drawing would need a script from outside.
suppress_warnings = ["misc.highlighting_failure"]
