"""The page: sections and data in, one HTML file out."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A part of the page. id: of its heading and link; template: the file that draws it; told: what that file asks of
    `section`."""

    id: str
    title: str
    template: str
    told: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.told[name]
        except KeyError:
            raise AttributeError(name) from None


def render(
    title: str, made: str, sections: Sequence[Section], data: Mapping[str, Any], media_source: str = "'none'"
) -> bytes:
    """The page as UTF-8. data: what its script reads; made: when, of what; media_source: what its player may load."""
    page = Environment(
        loader=PackageLoader("samplecnn.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    source = {name: _source(page, f"report.{kind}") for name, kind in (("style", "css"), ("script", "js"))}
    # The browser runs and applies what has these hashes, and nothing else, whatever may slip into the page.
    hashes = {f"{name}_hash": _hash(text) for name, text in source.items()}
    told = {"title": title, "made": made, "sections": sections, "data": data, "media_source": media_source}
    ours = {name: Markup(text) for name, text in source.items()}
    text = page.get_template("report.html").render(**told, **hashes, **ours)
    return text.encode("utf-8", "backslashreplace")  # a message may hold a lone surrogate


def _source(page: Environment, name: str) -> str:
    assert page.loader is not None
    return page.loader.get_source(page, name)[0]


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
