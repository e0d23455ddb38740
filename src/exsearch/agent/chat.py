"""A model's chat template, taken apart once so that conversations can be built token by token.

A trajectory grows turn by turn and its tokens must never change afterwards, so each piece is tokenised on its own
and only ever appended. Text from outside (questions, passages) is encoded with special tokens switched off: a
passage that spells `<|im_end|>` becomes ordinary characters.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from exsearch.engine.base import TokenIds
from exsearch.errors import UsageError

_PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}User: {{ message.content }}\nAssistant: "
    "{% else %}{{ message.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
)
"""For base models without a chat template."""


class ChatFormat:
    """Turns text into token ids as the model's chat template would, piece by piece."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Take the template apart; raise UsageError if its turns do not end in a special token."""
        self.tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self.start: TokenIds = tokenizer("").input_ids
        """Before a text that is no chat: the token of a beginning, for models that have one."""
        head, answer, close = self._split_template()
        self.head: TokenIds = self._encode(head, special=True)
        """Before the first user turn's text."""
        self.open_assistant: TokenIds = self._encode(answer, special=True)
        """Between a user turn's text and the model's."""
        closing = self._encode(close, special=True)
        self.stop_id: int = closing[0]
        """The token by which the model ends its turn."""
        self.open_user: TokenIds = closing[1:]
        """Between the model's stop token and the next user turn's text."""
        if self.stop_id not in tokenizer.all_special_ids:
            raise UsageError("the model's chat template does not end an assistant turn with a special token")

    @classmethod
    def load(cls, folder: Path) -> "ChatFormat":
        """Load the tokenizer of a checkpoint folder."""
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UsageError(f"{folder}: its tokenizer has no fast version (tokenizer.json)")
        return cls(tokenizer)

    def _split_template(self) -> tuple[str, str, str]:
        marks = [f"turn{number}mark" for number in range(5)]
        roles = ("user", "assistant", "user", "assistant", "user")
        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        template = self.tokenizer.chat_template or _PLAIN_TEMPLATE
        rest = str(self.tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False))
        pieces = []
        for mark in marks:
            piece, found, rest = rest.partition(mark)
            if not found:
                raise UsageError("the model's chat template does not show every turn as it is")
            pieces.append(piece)
        head, answer, close, answer_again, close_again = pieces
        if (answer, close) != (answer_again, close_again):
            raise UsageError("the model's chat template renders earlier turns differently from later ones")
        return head, answer, close

    def _encode(self, text: str, special: bool) -> TokenIds:
        self._backend.encode_special_tokens = not special
        ids: TokenIds = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, text: str) -> TokenIds:
        """Encode text from outside: whatever it spells, no special token comes out."""
        return self._encode(text, special=False)

    def ids_ending(self, strings: Sequence[str]) -> TokenIds:
        """Return the tokens by which a text may reach the end of one of these strings.

        They begin with what a string ends with, or contain a whole one.
        """
        ends = tuple({string[start:] for string in strings for start in range(len(string))})
        found = (text.startswith(ends) or any(string in text for string in strings) for text in self._vocabulary)
        return [id_ for id_, may_end in enumerate(found) if may_end]

    @cached_property
    def _vocabulary(self) -> list[str]:
        """The text of every token."""
        return self.tokenizer.batch_decode([[id_] for id_ in range(len(self.tokenizer))])

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the conversation whose tokens these are, up to an open turn of the model."""
        messages = []
        rest = ids[len(self.head) :]
        while rest:
            said, rest = _split(rest, self.open_assistant)
            messages.append({"role": "user", "content": self.decode(said)})
            said, rest = _split(rest, [self.stop_id, *self.open_user])
            if said:
                messages.append({"role": "assistant", "content": self.decode(said)})
        return messages

    def decode(self, ids: TokenIds) -> str:
        """Decode without the stop token, other special tokens visible."""
        return str(self.tokenizer.decode([i for i in ids if i != self.stop_id], skip_special_tokens=False))


def _split(ids: TokenIds, mark: TokenIds) -> tuple[TokenIds, TokenIds]:
    """Return what stands before the first mark, and what stands behind it."""
    for start in range(len(ids) - len(mark) + 1):
        if ids[start : start + len(mark)] == mark:
            return ids[:start], ids[start + len(mark) :]
    return ids, []
