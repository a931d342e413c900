"""What the site needs beyond the pages of docs/: files of the repository that they lead to, in their places."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()(?P<target>(?!\w+:|#)[^)#\s]+)")
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
MORE = ("benchmarks/results.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, *, config: Any) -> Files:
    """Adds pages that lie beside docs/, and every file of the repository that a page leads to."""
    wanted = set(MORE)
    for file in files.documentation_pages():
        wanted |= {_place(target, file.src_uri) for target in _LINK.findall(file.content_string)} - set(files.src_uris)
    for place in sorted(wanted):
        path = ROOT / place
        if path.is_file() and path.is_relative_to(ROOT):
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """The page with links as they are on the site, without comments, which say how it is tested."""
    source = page.file.src_uri

    def turned(match: re.Match[str]) -> str:
        place = _place(match["target"], source)
        if files.get_file_from_path(place) is None:
            return match["target"]
        return posixpath.relpath(place, posixpath.dirname(source))

    return _LINK.sub(turned, _COMMENT.sub("", markdown))


def _place(target: str, source: str) -> str:
    """Where a link leads, from the top of the site, at which docs/ and the repository lie one upon the other."""
    top = posixpath.dirname(source) if source in MORE else posixpath.join("docs", posixpath.dirname(source))
    return posixpath.normpath(posixpath.join(top, target)).removeprefix("docs/")
