"""A tokenizer with which no text can spell a control token.

Tokenizers find added tokens, such as `<|im_end|>` or `<think>`, by their spelling, in text of any origin, and
whether or not they are flagged as special. Here these tokens have other names, drawn at random and never shown, so
that text that spells one of them stays text. What writes control tokens, the chat template, is translated to these
names; the result is then tokenised as a whole, each part in its context, as the tokenizer itself would do.
"""

import re
import secrets
from functools import cached_property
from typing import Any

import msgspec
from tokenizers import AddedToken, Encoding, Tokenizer

from exsearch.core.errors import UsageError
from exsearch.core.tokens import TokenIds

_BLANK = "\u2581"
"""What SentencePiece writes for a space."""


class ControlTokens:
    """Translates between text with visible control tokens, text with hidden names for them, and token ids."""

    def __init__(self, backend: Tokenizer, free: tuple[str, ...] = ()) -> None:
        """Rename the added tokens of a copy of `backend`, except those in `free`.

        Words and white space keep their names: they were added to be single tokens, not to control anything.
        """
        self._original = backend
        self._added = backend.get_added_tokens_decoder()
        controls = {id_: token for id_, token in self._added.items() if _controls(token) and token.content not in free}
        key = f"x{secrets.token_hex(8)}"
        self._names = {token.content: f"{key}n{id_}z" for id_, token in controls.items()}
        self._contents = {name: content for content, name in self._names.items()}
        longest = sorted(controls.values(), key=lambda token: len(token.content), reverse=True)
        self._spelled = re.compile("|".join(map(_pattern, longest)) or "(?!)")
        self._named = re.compile("|".join(self._contents) or "(?!)")
        self._reachable = {id_ for id_ in controls if backend.model.id_to_token(id_) is not None}
        """Control tokens that the model part of the tokenizer can produce from plain text."""
        self._backend = self._with_hidden_names()
        numbers = ((id_, self._backend.token_to_id(self._name(token))) for id_, token in self._added.items())
        inside = {id_: new for id_, new in numbers if new is not None}
        if any(backend.model.id_to_token(inside[id_]) is not None for id_ in controls):  # its ids have gaps
            self._backend, inside = self._unreachable, {}
        self._inside, self._outside = inside, {new: id_ for id_, new in inside.items()}

    def hide(self, text: str) -> str:
        """Return a text with each control token that it spells replaced by its hidden name."""
        return self._spelled.sub(lambda match: self._names[match[0]], text)

    def show(self, hidden: str) -> str:
        """Return a text with hidden names replaced by the visible ones."""
        return self._named.sub(lambda match: self._contents[match[0]], hidden)

    def spelled_in(self, text: str) -> list[re.Match[str]]:
        """Return the places where a text spells control tokens, in order."""
        return list(self._spelled.finditer(text))

    def encode(self, hidden: str) -> TokenIds:
        """Return the token ids of a text in which hidden names are control tokens; visible ones stay text."""
        ids, _ = self.encode_with_places(hidden)
        return ids

    def encode_with_places(self, hidden: str) -> tuple[TokenIds, list[tuple[int, int]]]:
        """Return the same, and for each token its start and end in the text, in characters."""
        encoding: Encoding = self._backend.encode(hidden, add_special_tokens=False)
        ids: TokenIds = [self._outside.get(id_, id_) for id_ in encoding.ids]
        if not self._reachable.isdisjoint(encoding.ids):
            encoding = self._unreachable.encode(hidden, add_special_tokens=False)
            ids = encoding.ids
        return ids, encoding.offsets

    def decode(self, ids: TokenIds) -> str:
        """Return the text of token ids, with control tokens under their hidden names."""
        return str(self._backend.decode([self._inside.get(id_, id_) for id_ in ids], skip_special_tokens=False))

    def _name(self, token: AddedToken) -> str:
        return self._names.get(token.content, token.content)

    def _with_hidden_names(self) -> Tokenizer:
        """Return a tokenizer with the model of the original one, and the added tokens under their hidden names."""
        tokenizer = Tokenizer(self._original.model)
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            setattr(tokenizer, part, getattr(self._original, part))
        tokenizer.add_tokens([_renamed(token, self._name(token)) for _, token in sorted(self._added.items())])
        return tokenizer

    @cached_property
    def _unreachable(self) -> Tokenizer:
        """Return a copy whose model does not have the control tokens either, so that it cannot build them from pieces.

        Raises UsageError for a tokenizer that cannot be copied in this way.
        """
        data: dict[str, Any] = msgspec.json.decode(self._original.to_str())
        for token in data["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        _rename_in_model(data["model"], self._names)
        data |= {"post_processor": None, "truncation": None, "padding": None}
        copy = Tokenizer.from_str(msgspec.json.encode(data).decode())
        if any(copy.token_to_id(self._name(token)) != id_ for id_, token in self._added.items()):
            raise UsageError("the model's tokenizer numbers its added tokens in a way that cannot be copied")
        return copy


def _controls(token: AddedToken) -> bool:
    """Return whether an added token is more than a word or white space."""
    letters = token.content.replace(_BLANK, " ")
    return bool(token.special) or not all(letter.isalnum() or letter.isspace() for letter in letters)


def _pattern(token: AddedToken) -> str:
    content = re.escape(token.content)
    return rf"(?<!\w){content}(?!\w)" if token.single_word else content


def _renamed(token: AddedToken, name: str) -> AddedToken:
    flags = {flag: getattr(token, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return AddedToken(name, **flags)


def _rename_in_model(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename tokens in the vocabulary, and drop merges that produce one of them, so that no text can."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): id_ for token, id_ in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if "merges" in model:
        model["merges"] = [
            (first, second)
            for first, second in model["merges"]
            if names.keys().isdisjoint((first, second, first + second))
        ]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
