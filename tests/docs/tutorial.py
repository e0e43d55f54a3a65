"""The blocks of the tutorial in docs/bindings/writing-a-binding.md, and how a reader uses them."""

import re
import textwrap
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/bindings/writing-a-binding.md"
BLOCK = re.compile(
    r"^<!-- no example: tutorial (.+?) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = dict(BLOCK.findall(PAGE.read_text("utf-8")))
FUNCTIONS = ("split", "decode", "encode", "answer")


def fill_in(binding, names=FUNCTIONS):
    """Write the page's functions into the file, as the page says how."""
    text = binding.read_text()
    comment = "# Imports and constants of the four functions stand here.\n"
    text = text.replace(comment, BLOCKS["top"])
    for name in names:
        start = text.index(f"def {name}(")
        body = textwrap.indent(BLOCKS[name], " " * 8)
        unwritten = re.compile(r" +raise NotImplementedError\(.*\)\n")
        text = text[:start] + unwritten.sub(lambda _: body, text[start:], count=1)  # noqa: B023 - used at once
    binding.write_text(text)
