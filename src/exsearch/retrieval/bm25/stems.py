"""Identifies the stemmer, since an index and its queries must be stemmed alike.

Releases of PyStemmer differ in some words: 3.0.0 maps `international` and `internal` to one stem, 3.1.0 to two. An
index that was built with one and is searched with the other never finds these words, and says nothing.
"""

import hashlib
import re
from functools import cache
from importlib.metadata import version

import Stemmer

PACKAGE = "PyStemmer"
_ROOTS = re.split(
    " ",
    "able act arsen assess aud back bas bel cap car centr cit cloth coll commun comput confer cre day "
    "deliver der div early easy electr emerg enter ev exceed fall feed form found gen gener geo hand herr "
    "hist hop hors idl inn inter invest jov kind lam later lea lin lov man max med min mod nat new night "
    "nin norm nov op organ outing part past plan pre proceed psych publ quer rat reg relat roll run sing "
    "ski sky sol stat stil stor struct succeed tan terr test tim toy tract tru ugl univers up val vis vit "
    "weak wol writ young",
)
_BEGINNINGS = ("", "inter")
_ENDINGS = re.split(
    " ",
    " s es ies ied us ss ed eedly ing ingly edly y e l ly li al ally ational tional ation ator ate alism "
    "aliti alli fulness ful ness ousli ousness ous iveness iviti ive biliti bli able ably ability ible "
    "ogi ogist fulli lessli less alize icate iciti ical ic ance ence er izer ization ant ement ment ent "
    "ism ity iti ise ize ion ial ual nal national",
)


@cache
def stems_digest() -> str:
    """Return a hash of the stems of 15,000 invented words, which use each rule of the English stemmer."""
    stemmer = Stemmer.Stemmer("english")
    words = [beginning + root + ending for beginning in _BEGINNINGS for root in _ROOTS for ending in _ENDINGS]
    return hashlib.blake2b("\n".join(stemmer.stemWords(words)).encode(), digest_size=8).hexdigest()


def stemmer_version() -> str:
    """Return the version of the package that stems."""
    return version(PACKAGE)
