"""Turns words into search terms: stems, as 64-bit hashes.

An index stores hashes instead of words: among eight million different words, the chance of any collision is 2e-6.
"""

import hashlib

import Stemmer

_REMEMBERED = 1 << 17


class Stems(dict[str, int]):
    """Maps a word, as `words` returns it, to the hash of its stem. Use one per thread: stemmers cannot be shared."""

    def __init__(self) -> None:
        """Start with an English Snowball stemmer, which does not change words of other scripts."""
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english")

    def __missing__(self, word: str) -> int:
        """Stem a word that is not cached."""
        if len(self) >= _REMEMBERED:
            self.clear()
        plain = word.removeprefix("'").replace(".", "").replace(" ", "")  # only initials have full stops and spaces
        stem = self._stemmer.stemWord(plain).encode("utf-8", "surrogatepass")
        self[word] = hashed = int.from_bytes(hashlib.blake2b(stem, digest_size=8).digest(), "little")
        return hashed


class TermNumbers(dict[str, int]):
    """Numbers the terms of many texts from 0; words with the same stem share a number."""

    def __init__(self) -> None:
        """Start without terms; `hashes` lists the hash of each number."""
        super().__init__()
        self.hashes: list[int] = []
        self._stems = Stems()
        self._by_hash: dict[int, int] = {}

    def __missing__(self, word: str) -> int:
        """Number a word that occurs for the first time."""
        stem = self._stems[word]
        self[word] = number = self._by_hash.setdefault(stem, len(self.hashes))
        if number == len(self.hashes):
            self.hashes.append(stem)
        return number
