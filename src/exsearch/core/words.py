"""Splits text into words, for passages and queries alike.

A word is a run of at least one letter or digit, in lower case. Beyond that:

* Initials are one word, with spaces or without: `U.S.` and `US` are `us`, `J. R. R.` and `J.R.R.` are `jrr`. `AT&T` is
  one word, and `C++` and `C#` are not `C`.
* English stop words are dropped, unless nothing else is left: the title "It" can be found. The letter of "Vitamin A" is
  not an article: a capital within a sentence or before a full stop, or an `a` that ends the text.
* Composed and decomposed letters, compatibility forms and cases are equal, and Latin, Greek and Cyrillic letters lose
  their accents: `dvorak` finds Dvořák, `istanbul` İstanbul, `strasse` Straße. Hebrew and Arabic lose their vowel signs.
  The marks of other scripts belong to the word.
* Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, which joins particles
  to words, are split into overlapping pairs of characters.
"""

import re
import unicodedata
from functools import cache
from itertools import pairwise

STOP_WORDS = frozenset(
    re.split(
        " ",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)
_CONTRACTIONS = frozenset(re.split(" ", "'s 't 'd 'm 'll 're 've"))
_LEFT_OUT = STOP_WORDS | _CONTRACTIONS | {f"'{word}" for word in STOP_WORDS - {"a"}}

_CAPITAL_A = re.compile(r"A\b(?:(?<=\w[ -]A)|(?=\.)(?<![\w.&]A)(?<!\. A))")
_WORD = r"""
    '?{letters}     # the apostrophe tells the 's of a genitive, and the 'a of a letter, from words
    (?: (?=[.+\#&])
        (?: (?<=\b{initial}) (?: (?:\.\ ?{initial}(?=\.) | \.{initial}\b)+ | \+\+ | \# )    # U.S. and C++
          | (?<!\w{{4}}) &\w\b                                                              # AT&T
        )
    )?
"""
_ASCII_WORD = re.compile(_WORD.format(letters="[a-z0-9]++", initial="[a-z]"), re.VERBOSE | re.ASCII)

_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001b000-\U0001b16f"  # Hiragana and Katakana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u1100-\u11ff\u3131-\u318e\uac00-\ud7ff"  # Hangul
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai and Lao, without signs and digits
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_PARTS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_DROPPED = (
    "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # accents
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic signs
    "\u00ad\u02bb\u061c\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"  # invisible ones, and the okina
    "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variation selectors
)
_REPLACED = {
    **dict.fromkeys("\u2018\u2019\u201b\u02bc", "'"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u201c\u201d\u201e\u2022\u00ab\u00bb\u00b7", " "),
    **dict.fromkeys("\u00a3\u20ac\u00b0\u00d7\u2032\u2033\u2212", " "),
    **dict(zip("øØđĐðÐħĦıłŁþÞæÆœŒ", re.split(" ", "o o d d d d h h i l l th th ae ae oe oe"), strict=True)),
}
"""Apostrophes; non-ASCII characters of English texts, so that most of these become ASCII; letters without
decomposition.
"""
_FOLDED = re.compile(f"[{_DROPPED}{''.join(_REPLACED)}]")


def words(text: str) -> list[str]:
    """Return the words of `text` in order, in the form for `Stems`: with initials and apostrophes."""
    if not text.isascii():
        text = _fold(text)
    if "A" in text:
        text = _CAPITAL_A.sub("'a", text)
    if (end := text.rstrip(" ?!.")).endswith((" a", "-a")):
        text = f"{end[:-1]}'a"
    tokens = _ascii_words(text.lower()) if text.isascii() else _words_of_any_script(text.casefold())
    return [word for word in tokens if word not in _LEFT_OUT] or tokens


def _fold(text: str) -> str:
    """Return `text` with equal letters written alike, except for case."""
    # after normalising, which turns a trade mark sign into TM, part of the preceding word
    text = unicodedata.normalize("NFKD", text.replace("\u2122", " "))
    return unicodedata.normalize("NFC", _FOLDED.sub(_replacement, text))


def _replacement(match: re.Match[str]) -> str:
    return _REPLACED.get(match[0], "")


def _ascii_words(text: str) -> list[str]:
    return _ASCII_WORD.findall(text.replace("_", " "))


def _words_of_any_script(text: str) -> list[str]:
    word, character = _patterns()
    runs: list[str] = word.findall(text.replace("_", " "))
    if not _UNSPACED_RUN.search(text):
        return runs
    tokens: list[str] = []
    for run in runs:
        if not _UNSPACED_RUN.search(run):
            tokens.append(run)
            continue
        for part in _PARTS.findall(run.strip("'")):
            units = character.findall(part) if _UNSPACED_RUN.match(part) else [part]
            tokens += map("".join, pairwise(units)) if len(units) > 1 else units
    return tokens


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of a word, in a script with spaces, and of a character with its marks.

    Python's \\w does not include marks. Collecting them takes a moment, and ASCII text does not need them.
    """
    codes = [code for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M")]
    starts = [code for code, before in zip(codes, [0, *codes], strict=False) if code != before + 1]
    stops = [code for code, after in zip(codes, [*codes[1:], 0], strict=True) if code + 1 != after]
    marks = "".join(f"{chr(start)}-{chr(stop)}" for start, stop in zip(starts, stops, strict=True))
    word = _WORD.format(letters=rf"(?:\w++[{marks}]*+)++", initial=r"[a-z\u0370-\u058f]")
    return re.compile(word, re.VERBOSE), re.compile(f"[^{marks}][{marks}]*|[{marks}]+")
