"""The code blocks of a Markdown file, and what is said about them in an HTML comment just before."""

import re
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^(?:<!-- (?P<notes>[a-z ]+) -->\n+)?(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """What stands between two fences, without the indentation of a list."""

    language: str
    text: str
    notes: frozenset[str]
    line: int

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Of a console block: each command, without its `$ `, and the lines that are shown below it."""
        found: list[tuple[str, list[str]]] = []
        for line in re.sub(r"\\\n +", "", self.text).splitlines():  # a backslash continues a command
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def markdown_blocks(markdown: str, *languages: str) -> list[Block]:
    """All blocks in order; or those of some languages."""
    blocks = [
        Block(
            match["language"],
            re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
            frozenset((match["notes"] or "").split()),
            markdown.count("\n", 0, match.start("indent")) + 1,
        )
        for match in _BLOCK.finditer(markdown)
    ]
    return [block for block in blocks if not languages or block.language in languages]
