"""Labels that a reader can see: code points for what has no shape of its own."""

from __future__ import annotations

import unicodedata

_SEPARATORS = ("Zs", "Zl", "Zp")


def visible(label: str) -> str:
    """
    Return a label with its invisible characters named.

    Examples
    --------
    >>> visible("cat"), visible(" "), visible("a\\tb"), visible("")
    ('cat', 'U+0020 SPACE', 'a<U+0009>b', '(empty)')
    """
    if not label:
        return "(empty)"
    if len(label) == 1:
        return label if _has_shape(label, alone=True) else _code_point(label)
    last = len(label) - 1
    return "".join(
        ch if _has_shape(ch, alone=i in {0, last}, first=i == 0) else f"<U+{ord(ch):04X}>"
        for i, ch in enumerate(label)
    )


def _has_shape(ch: str, *, alone: bool, first: bool = True) -> bool:
    kind = unicodedata.category(ch)
    if ch == " ":
        return not alone
    if kind[0] == "M":  # combining: needs a character before it
        return not first
    return kind[0] != "C" and kind not in _SEPARATORS


def _code_point(ch: str) -> str:
    name = unicodedata.name(ch, "")
    return f"U+{ord(ch):04X} {name}".rstrip()
