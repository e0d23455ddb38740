"""Answer normalisers by name: in what two answers may differ and still be equal.

`squad` is the one of the official scripts of SQuAD, HotpotQA, 2WikiMultihopQA, MuSiQue and KILT, of DPR's reader, of
FlashRAG, verl and Search-R1: they differ in wording, but not in what they do nor in its order. The protocol uses it.
The others exist to score predictions as their systems did (docs/reference/metrics.md).
"""

import re
import string
import unicodedata
from collections.abc import Callable

Normaliser = Callable[[str], str]

NAME = "squad"
"""Name of the protocol's normaliser."""
_NOTHING = str.maketrans("", "", string.punctuation)
_SPACES = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_SEARCHLM = str.maketrans("", "", "ai" + string.punctuation.replace("_", ""))
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Convert to lower case; drop punctuation, then the articles a, an, the, then surplus blanks, in this order."""
    return _without_articles(text.lower().translate(_NOTHING))


def _without_articles(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text).split())


def triviaqa(text: str) -> str:
    """Replace punctuation that `normalise` drops, and curly quotes, by spaces (TriviaQA's official script)."""
    return _without_articles(text.lower().translate(_SPACES))


def r1_searcher(text: str) -> str:
    """Read True as yes and False as no, then do the same as `triviaqa` (R1-Searcher's evaluation)."""
    return triviaqa({"True": "yes", "False": "no"}.get(text, text))


def dpr(text: str) -> str:
    """Return the words and symbols of the decomposed text (NFD) in lower case, separated by spaces.

    DPR, and DrQA before it, use these to decide whether a passage contains an answer; punctuation and articles are
    kept.
    """
    spaced = "".join(_spaced(character) for character in unicodedata.normalize("NFD", text))
    return " ".join(spaced.split()).lower()


def _spaced(character: str) -> str:
    """Keep letters, marks and digits together, separate symbols, and split the text at all other characters."""
    category = unicodedata.category(character)[0]
    if category in "LMN":
        return character
    return " " if category in "ZC" else f" {character} "


def searchlm_v1(text: str) -> str:
    """Drop *characters* that are in a set of stop words, which has "a", "i" and punctuation except "_" (SearchLM, v1).

    The set is one of words, but the code tests each character of the text. So "World War I" equals "World War II",
    "Henry II" equals "Henry III", and "Maria" equals "Mr".
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
