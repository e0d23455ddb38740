"""From text to search terms: lower-cased words of two characters or more, no English stop words, stemmed."""

import hashlib
import re

import Stemmer

WORD = re.compile(r"\b\w\w+\b")
STOP_WORDS = frozenset(
    re.split(
        " ",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)
STOP_WORD = -1
_REMEMBERED = 1 << 17


def words(text: str) -> list[str]:
    """Return the words of `text`, lower-cased, stop words among them."""
    return WORD.findall(text.lower())


class Stems(dict[str, int | None]):
    """Maps a word to the 64-bit hash of its stem, a stop word to None. Keep one a thread: stemmers are not shared.

    Hashes stand for the words in an index: eight million different words collide with a chance of 2e-6.
    """

    def __init__(self) -> None:
        """Start with an English Snowball stemmer."""
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english")

    def __missing__(self, word: str) -> int | None:
        """Stem a word that is not remembered."""
        if len(self) >= _REMEMBERED:
            self.clear()
        if word in STOP_WORDS:
            hashed = None
        else:
            stem = self._stemmer.stemWord(word).encode("utf-8", "surrogatepass")
            hashed = int.from_bytes(hashlib.blake2b(stem, digest_size=8).digest(), "little")
        self[word] = hashed
        return hashed


class TermNumbers(dict[str, int]):
    """Numbers the terms of many texts from 0: words of one stem share a number, stop words have STOP_WORD."""

    def __init__(self) -> None:
        """Start without a term; `hashes` lists the hash of each number."""
        super().__init__()
        self.hashes: list[int] = []
        self._stems = Stems()
        self._by_hash: dict[int, int] = {}

    def __missing__(self, word: str) -> int:
        """Number a word that is met for the first time."""
        stem = self._stems[word]
        if stem is None:
            number = STOP_WORD
        else:
            number = self._by_hash.setdefault(stem, len(self.hashes))
            if number == len(self.hashes):
                self.hashes.append(stem)
        self[word] = number
        return number
