"""Answer normalisation as the SQuAD and KILT evaluation scripts define it."""

import re
import string

NAME = "squad"
"""Names this normaliser in a protocol."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower-case, drop punctuation, then the articles a, an, the, then surplus white space, in that order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
