"""Answer normalisers by name: what two answers may differ in and still be equal.

`squad` is that of the official scripts of SQuAD, HotpotQA, 2WikiMultihopQA, MuSiQue and KILT, of DPR's reader, of
FlashRAG, verl and Search-R1: they differ in wording, not in what they do nor in its order. It is the protocol's. The
others are there to score somebody's predictions as they did (docs/reference/metrics.md).
"""

import re
import string
import unicodedata
from collections.abc import Callable

Normaliser = Callable[[str], str]

NAME = "squad"
"""Names the protocol's normaliser."""
_NOTHING = str.maketrans("", "", string.punctuation)
_SPACES = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_SEARCHLM = str.maketrans("", "", "ai" + string.punctuation.replace("_", ""))
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower-case, drop punctuation, then the articles a, an, the, then surplus white space, in that order."""
    return _without_articles(text.lower().translate(_NOTHING))


def _without_articles(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text).split())


def triviaqa(text: str) -> str:
    """Put a space where `normalise` drops punctuation, and for curly quotes (TriviaQA's official script)."""
    return _without_articles(text.lower().translate(_SPACES))


def r1_searcher(text: str) -> str:
    """Read True as yes and False as no, then do as `triviaqa` does (R1-Searcher's evaluation)."""
    return triviaqa({"True": "yes", "False": "no"}.get(text, text))


def dpr(text: str) -> str:
    """Return the words and symbols of the decomposed text (NFD), lower-cased, a space between any two.

    DPR, and DrQA before it, decides by these whether a passage holds an answer; they keep punctuation and articles.
    """
    spaced = "".join(_spaced(character) for character in unicodedata.normalize("NFD", text))
    return " ".join(spaced.split()).lower()


def _spaced(character: str) -> str:
    """Keep letters, marks and digits together, set a symbol apart, and break the text at all others."""
    category = unicodedata.category(character)[0]
    if category in "LMN":
        return character
    return " " if category in "ZC" else f" {character} "


def searchlm_v1(text: str) -> str:
    """Drop *characters* found in a set of stop words, which holds "a", "i" and punctuation but "_" (SearchLM, v1).

    The set is one of words, but the code asks for each character of the text whether it is in it. So "World War I"
    equals "World War II", "Henry II" equals "Henry III", and "Maria" equals "Mr".
    """
    return _without_articles(text.lower().translate(_SEARCHLM))


def unchanged(text: str) -> str:
    """Return the text as it is."""
    return text


NORMALISERS: dict[str, Normaliser] = {
    NAME: normalise,
    "triviaqa": triviaqa,
    "r1-searcher": r1_searcher,
    "dpr": dpr,
    "searchlm-v1": searchlm_v1,
    "none": unchanged,
}
