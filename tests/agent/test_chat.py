"""A chat template taken apart: its pieces make the same tokens as the template itself."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.core.errors import UsageError

ordinary = st.text(alphabet=st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)


# The embedded model's vocabulary lacks the bytes of a few control characters and of planes without characters.
writable = st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_characters="\x04\x06\x13\x14\x16\x1d")


def with_template(chat: ChatFormat, template: str | None) -> ChatFormat:
    tokenizer = deepcopy(chat.tokenizer)
    tokenizer.chat_template = template
    return ChatFormat(tokenizer)


@settings(max_examples=50)
@given(ordinary, ordinary, ordinary)
def test_the_pieces_of_a_conversation_are_the_templates_own_tokens(
    chat: ChatFormat, user: str, assistant: str, again: str
) -> None:
    pieces = chat.first_prompt(user) + chat.turn_ids(assistant) + chat.next_prompt(again)
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": c} for r, c in zip(roles, (user, assistant, again), strict=True)]
    text = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert chat.tokenizer.decode(pieces) == text
    assert pieces == chat.tokenizer(text, add_special_tokens=False).input_ids


def test_digits_are_tokens_of_their_own(chat: ChatFormat) -> None:
    assert chat.encode("In 1987 there were 42.") == [788, 216, 33, 41, 40, 39, 665, 592, 216, 36, 34, 30]


@given(st.text(writable))
def test_any_text_survives_encoding(chat: ChatFormat, text: str) -> None:
    assert chat.decode(chat.encode(text)) == text


def test_decoding_drops_the_stop_token_and_shows_other_special_ones(chat: ChatFormat) -> None:
    assert chat.decode([*chat.encode("Paris"), chat.stop_id]) == "Paris"
    assert chat.decode([0, *chat.encode("Paris")]) == "<|endoftext|>Paris"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "does not end .* with a special token"),
        (
            "{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}",
            "does not reproduce the text of every turn",
        ),
        (
            "{% for m in messages %}{{ m.content }}{{ eos_token if loop.index < 3 else pad_token }}{% endfor %}",
            "renders earlier turns differently",
        ),
    ],
)
def test_a_template_that_cannot_be_continued_is_refused(chat: ChatFormat, template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_template(chat, template)


def test_a_base_model_without_a_template_gets_a_plain_one(chat: ChatFormat) -> None:
    plain = with_template(chat, None)
    assert plain.stop_id == chat.tokenizer.eos_token_id
    ids = plain.first_prompt("Hi") + plain.turn_ids("Hello") + plain.next_prompt("Bye")
    assert chat.tokenizer.decode(ids) == "User: Hi\nAssistant: Hello<|im_end|>\nUser: Bye\nAssistant:"
