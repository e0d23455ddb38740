"""Names of the world: invented English-looking words, assigned so that no two entities share a name.

Every invented word belongs to exactly one of SEED_CLASSES classes, by a checksum of its letters, and a world uses only
words of the class `seed % SEED_CLASSES`. Every title and alias has an invented word, so the worlds of any two seeds of
0..99, or others that differ modulo SEED_CLASSES, have no name in common.
"""

import random
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exsearch.world.schema import EntityKind

SEED_CLASSES = 100


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_STEMS = tuple(
    onset + rime
    for onset in _listed("B Br Bl C Cl Cr D Dr F Fl G Gl Gr H J K L M N P Pr R S Sh St T Th Tr V W Wh Y")
    for rime in _listed(
        "al am an and ar ard arn ast ath eck ed el eld en end er ern est et ick id ill in ind ing ist ock "
        "od old on ond or ord orn ost ow um und ur urn ust"
    )
) + _listed("Ald Alm Amb Ard Ash Ast Edd Eld Elm Emb End Ern Ing Isl Ock Old Orm Osk Ost Ulv Und Urs")
_ENDINGS = _listed(
    "well ley low ford ton by wick field more dale worth ham stead combe ridge mere bourne gate croft "
    "hurst den man son ett ard bury wood land brook side burn holm shaw stone ward water wall beck "
    "mont kins over cott lock fell hill leigh marsh minster mouth port thorpe vale view way yard"
)
_LINKS = _listed("ing er en el a is ar o in es am un")
_COUNTRY_ENDINGS = _listed("ia ania ora ova una aria esia avia onia ica ara istan ordia elia olia mark")
_FAMOUS = frozenset(
    _listed(
        "Bedford Bradford Bradley Brandon Burton Clinton Clifton Hamilton Hampton Stanford Stanton "
        "Stanley Preston Wellington Norton Horton Morton Marston Winston Weston Walton Dalton Milton "
        "Hilton Wilton Bolton Boston Houston Kingston Princeton Denver Portland Holland Finland Ireland "
        "Scotland England Dallas Lincoln Hartford Oxford Stratford Bristol Plymouth Falmouth Exeter "
        "Crawford Clifford Linden Harlow Barlow Wesley Worthing Armenia Arabia Bavaria Bolivia Slovenia "
        "India Lebanon Georgia Estonia Albania Germany Pakistan"
    )
)
_UGLY = re.compile(r"(.)\1\1|(...+)\2|[^aeiouy]{5}", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """The names of one entity; `forms` are the names as running text writes them, articles included."""

    canonical: str
    aliases: tuple[str, ...]
    forms: tuple[str, ...]
    word: str

    @property
    def all(self) -> list[str]:
        """The canonical name and the aliases."""
        return [self.canonical, *self.aliases]


def seed_class(word: str) -> int:
    """Return the class of seeds whose worlds may use `word`."""
    return zlib.crc32(word.encode()) % SEED_CLASSES


def _own(candidates: Iterator[str], wanted_class: int) -> list[str]:
    """Keep the words of one seed class, each once."""
    words = dict.fromkeys(word for word in candidates if seed_class(word) == wanted_class)
    return [word for word in words if word not in _FAMOUS and not _UGLY.search(word)]


@lru_cache(maxsize=8)
def short_words(wanted: int, country: bool = False) -> list[str]:
    """Return the words of two parts of a seed class, such as 'Brindley', or 'Brindora' for a country."""
    endings = _COUNTRY_ENDINGS if country else _ENDINGS
    return _own((stem + ending for stem in _STEMS for ending in endings), wanted)


@lru_cache(maxsize=4)
def long_words(wanted: int, country: bool = False) -> list[str]:
    """Return the words of three parts of a seed class, such as 'Brinderley' or 'Brinderia'."""
    endings = _COUNTRY_ENDINGS if country else _ENDINGS
    words = _own((stem + link + ending for link in _LINKS for stem in _STEMS for ending in endings), wanted)
    short = set(short_words(wanted, country))
    return [word for word in words if word not in short]


class NameBook:
    """Deals names of one kind by number: different numbers get different names, neighbours share a word.

    Number n is member `n % namesakes` of group `n // namesakes`. A group has one word; once all words are used they are
    assigned again, each time with patterns that the word has not had yet.
    """

    def __init__(self, kind: EntityKind, seed: int, numbers: int, variants: int) -> None:
        """Prepare names for the numbers below `numbers`, each word in at most `variants` combinations."""
        self.kind, self.numbers, self.variants = kind, numbers, variants
        own_class = seed % SEED_CLASSES
        groups = numbers // kind.namesakes + 1
        country = kind.name == "country"
        self.words = list(short_words(own_class, country))
        # Long words cost more tokens; they are used when short ones would have to be reused too often.
        if groups > 4 * len(self.words):
            self.words += long_words(own_class, country)
        random.Random(f"names/{kind.name}/{seed}").shuffle(self.words)

    @property
    def suffices(self) -> bool:
        """Whether there is a name for every number."""
        return self.numbers <= self.capacity

    @property
    def capacity(self) -> int:
        """Number of different names."""
        return len(self.words) * (self.variants // self.kind.namesakes) * self.kind.namesakes

    def deal(self, number: int) -> tuple[str, int, int]:
        """Return the word of name `number`, its turn, below `variants`, and where the word's turns start."""
        group, member = divmod(number, self.kind.namesakes)
        round_, place = divmod(group, len(self.words))
        word = self.words[place]
        start = zlib.crc32(f"{self.kind.name}/{word}".encode())
        return word, round_ * self.kind.namesakes + member, start

    def name(self, number: int) -> Name:
        """Return name `number` of a kind that has patterns."""
        word, turn, start = self.deal(number)
        return from_pattern(self.kind.patterns[(start + turn) % self.variants], word)


def from_pattern(pattern: str, word: str, honoured: Mapping[str, str] | None = None) -> Name:
    """Fill a kind's name pattern with an invented word, or with the name of an entity that has this word."""
    variants = [form.format(w=word, **(honoured or {})) for form in pattern.split("|")]
    bare = [form.removeprefix("~") for form in variants]
    forms = tuple("the " + form[1:] if form.startswith("~") else form for form in variants)
    return Name(bare[0], tuple(bare[1:]), forms, word)
