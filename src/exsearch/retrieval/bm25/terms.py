"""From words to search terms: stems, as 64-bit hashes.

Hashes stand for the words in an index: eight million different words collide with a chance of 2e-6.
"""

import hashlib

import Stemmer

_REMEMBERED = 1 << 17


class Stems(dict[str, int]):
    """Maps a word, as `words` returns it, to the hash of its stem. Keep one per thread: stemmers are not shared."""

    def __init__(self) -> None:
        """Start with an English Snowball stemmer, which leaves words of other scripts as they are."""
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english")

    def __missing__(self, word: str) -> int:
        """Stem a word that is not remembered."""
        if len(self) >= _REMEMBERED:
            self.clear()
        plain = word.removeprefix("'").replace(".", "").replace(" ", "")  # only initials have points and spaces
        stem = self._stemmer.stemWord(plain).encode("utf-8", "surrogatepass")
        self[word] = hashed = int.from_bytes(hashlib.blake2b(stem, digest_size=8).digest(), "little")
        return hashed


class TermNumbers(dict[str, int]):
    """Numbers the terms of many texts from 0: words of one stem share a number."""

    def __init__(self) -> None:
        """Start without a term; `hashes` lists the hash of each number."""
        super().__init__()
        self.hashes: list[int] = []
        self._stems = Stems()
        self._by_hash: dict[int, int] = {}

    def __missing__(self, word: str) -> int:
        """Number a word that is met for the first time."""
        stem = self._stems[word]
        self[word] = number = self._by_hash.setdefault(stem, len(self.hashes))
        if number == len(self.hashes):
            self.hashes.append(stem)
        return number
