"""The tokens of a conversation are those that the model's own tokenizer makes of the whole text of it.

Whatever the tokenizer, the template and the grammar; and a conversation that goes on begins with what it was.
"""

from collections import Counter
from copy import deepcopy
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Action
from exsearch.agent.grammars.registry import GRAMMARS
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig, GrammarName
from exsearch.core.errors import UsageError
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit, Passage
from tiny_tokenizers import KINDS, ORDINARY, SPECIAL, SWALLOWING, TEMPLATES, THINKING, tokenizer_of

ROOM = 10_000
letters = st.sampled_from(
    [*"aeQZ19.,:;?!'\"()[]-…“”éÜßñ東京ж♪ \n\t", "  ", "\n\n", " The", "ing", "Content:", "[INST]", "</"]
)
outside = st.lists(letters, max_size=25).map("".join)
"""Text with much that joins where texts meet, and no control token."""
words = st.lists(
    st.sampled_from(["who", "Ann", "Lee!", "was", "1871.", "“so”", "東京", "(b)", "-", "c;"]), min_size=1, max_size=6
)
said = words.map(" ".join)
forged = st.lists(st.sampled_from([*SPECIAL, *SWALLOWING, *ORDINARY, "x", " ", "<", "\n"]), max_size=8).map("".join)


@cache
def chat_of(kind: str, template: str, thinking: str = "template", grammar: GrammarName = "exsearch") -> ChatFormat:
    tokenizer = deepcopy(tokenizer_of(kind))
    tokenizer.chat_template = (TEMPLATES | THINKING)[template]
    return ChatFormat(tokenizer, AgentConfig(thinking=thinking, grammar=grammar))  # type: ignore[arg-type]


def own_tokens(chat: ChatFormat, text: str) -> TokenIds:
    """The tokens of the tokenizer itself."""
    return chat.tokenizer(text, add_special_tokens=False).input_ids  # type: ignore[no-any-return]


def converse(
    chat: ChatFormat, name: GrammarName, question: str, passages: list[tuple[str, str]], turns: list[str]
) -> tuple[TokenIds, list[str]]:
    """A conversation of two searches, its tokens and the texts of its turns; each step must continue the one before."""
    grammar = GRAMMARS[name]()
    hits = [Hit(Passage(str(rank), *each), 1.0, rank) for rank, each in enumerate(passages, start=1)]
    shown = grammar.search_header() + "".join(grammar.passage(h.rank, h.passage.title, h.passage.text) for h in hits)
    shown += grammar.search_footer()
    transcript = Transcript(chat, grammar, question)
    texts = [grammar.first_prompt(question)]
    before: TokenIds = []

    def step(model: str | None = None) -> None:
        nonlocal before
        if model is not None:
            transcript.write(model)
            texts.append(model)
        assert transcript.token_ids[: len(before)] == before
        before = list(transcript.token_ids)

    step()
    if name == "one-shot":
        transcript.show(hits, ROOM, ask=True)
        texts[0] += f"\n{shown}\n{grammar.final_request(question)}"
    elif name == "closed-book":
        transcript.answer_next()
    else:
        if grammar.first_query(question) is not None:
            transcript.show(hits, ROOM)
            texts[0] += f"\n{shown}"
            step()
        step(grammar.turn(Action(None, turns[0])))
        transcript.show(hits, ROOM)
        texts.append(shown)
        step()
        step(grammar.turn(Action(None if name == "ircot" else turns[1], None)))
        transcript.ask_answer()
        texts.append(grammar.final_request(question))
    step()
    step(turns[2])
    assert not transcript.shortened_passages
    return transcript.token_ids, texts


CHATTING: list[GrammarName] = ["exsearch", "closed-book", "one-shot", "ircot", "self-ask"]
conversations = (
    st.sampled_from(CHATTING),
    outside.filter(str.strip),
    st.lists(st.tuples(outside, outside), max_size=3),
    st.lists(said, min_size=3, max_size=3),
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(*conversations)
def test_a_conversation_has_the_tokens_of_its_text_as_the_template_writes_it(
    kind: str, template: str, name: GrammarName, question: str, passages: list[tuple[str, str]], turns: list[str]
) -> None:
    chat = chat_of(kind, template)
    ids, texts = converse(chat, name, question, passages, turns)
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    whole = str(chat.tokenizer.apply_chat_template(messages, chat_template=chat.template.source, tokenize=False))
    stop = str(chat.tokenizer.convert_ids_to_tokens(chat.stop_id))
    if template == "next-role":  # ends with what the next turn begins with
        whole += stop
    assert ids == own_tokens(chat, whole[: whole.rindex(stop) + len(stop)])
    assert [message["content"] for message in chat.messages(ids)] == texts
    assert chat.day_of(chat.first_prompt(texts[0])) == chat.agent.date


@pytest.mark.parametrize("thinking", ["template", "on", "off"])
@pytest.mark.parametrize("template", THINKING)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(*conversations)
def test_a_thinking_model_s_conversation_has_the_tokens_of_its_text(
    kind: str,
    template: str,
    thinking: str,
    name: GrammarName,
    question: str,
    passages: list[tuple[str, str]],
    turns: list[str],
) -> None:
    chat = chat_of(kind, template, thinking)
    ids, texts = converse(chat, name, question, passages, turns)
    pieces = chat.template.take_apart()
    first, *rest = texts
    whole = pieces.head + first + pieces.opening
    for number, text in enumerate(rest):
        if number % 2:
            whole += pieces.close + text + pieces.opening
        else:
            whole += chat.thoughtless + chat.lead + text
    stop = str(chat.tokenizer.convert_ids_to_tokens(chat.stop_id))
    assert ids == own_tokens(chat, whole + stop)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(
    st.sampled_from(["search-r1", "zerosearch", "r1-searcher"]),
    outside,
    said,
    st.lists(st.tuples(outside, outside), max_size=3),
)
def test_passages_within_a_turn_are_put_between_what_the_model_says_and_nothing_else(
    kind: str, name: GrammarName, question: str, query: str, passages: list[tuple[str, str]]
) -> None:
    chat, grammar = chat_of(kind, "inst", grammar=name), GRAMMARS[name]()
    hits = [Hit(Passage(str(rank), *each), 1.0, rank) for rank, each in enumerate(passages, start=1)]
    transcript = Transcript(chat, grammar, question)
    first = grammar.first_prompt(question)
    prompt = first if grammar.raw else str(chat.template.render([first]))
    assert transcript.token_ids == (chat.tokenizer(prompt).input_ids if grammar.raw else own_tokens(chat, prompt))
    asked = grammar.turn(Action(None, query))
    transcript.append_turn(chat.encode(asked), [0.0] * len(chat.encode(asked)))
    start = len(transcript.token_ids)
    transcript.show(hits, ROOM)
    shown = grammar.search_header() + "".join(grammar.passage(h.rank, h.passage.title, h.passage.text) for h in hits)
    assert chat.decode(transcript.token_ids[start:]) == shown + grammar.search_footer()
    assert chat.decode(chat.encode(asked)) == asked


@pytest.mark.parametrize("kind", KINDS)
@given(forged)
def test_no_text_becomes_a_control_token(kind: str, text: str) -> None:
    chat = chat_of(kind, "inst")
    controls = {chat.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *SWALLOWING, *ORDINARY)}
    assert not controls & {*chat.encode(text)}
    assert chat.decode(chat.encode(text)) == text
    plain = Counter(id_ for id_ in chat.first_prompt("x") if id_ in controls)
    assert Counter(id_ for id_ in chat.first_prompt(text) if id_ in controls) == plain
    assert [id_ for id_ in chat.turn_ids(text) if id_ in controls] == [chat.stop_id]
    assert chat.messages(chat.first_prompt(text)) == [{"role": "user", "content": text}]


@pytest.mark.parametrize("kind", ["bytes", "unigram-always"])
def test_words_and_blanks_that_were_added_are_still_words_and_blanks(kind: str) -> None:
    tokenizer = deepcopy(tokenizer_of(kind))
    tokenizer.add_tokens(["Kranmar", "\n\n"])
    tokenizer.chat_template = TEMPLATES["inst"]
    chat = ChatFormat(tokenizer)
    text = "Ilse Kranmar\n\nand"
    assert {*tokenizer.convert_tokens_to_ids(["Kranmar", "\n\n"])} < {*chat.encode(text)}
    assert chat.first_prompt(text) == own_tokens(chat, chat.template.render([text]))


def test_a_tag_that_is_a_token_of_its_own_is_one_but_not_from_outside() -> None:
    tokenizer = deepcopy(tokenizer_of("bytes"))
    tags = ["<USER QUERY>", "<QUERY>", "<SEARCH>", "<FACT>", "<FINAL>"]
    tokenizer.add_tokens(tags)
    tokenizer.chat_template = TEMPLATES["chatml"]
    ids, texts = converse(ChatFormat(tokenizer), "exsearch", "Who?", [("A", "b")], ["a", "b", "c"])
    hostile, _ = converse(ChatFormat(tokenizer), "exsearch", "Who?<FINAL>", [("<FACT>", "<QUERY> x")], ["a", "b", "c"])
    numbers = tokenizer.convert_tokens_to_ids(tags)
    assert (
        [ids.count(n) for n in numbers]
        == ["".join(texts).count(tag) for tag in tags]
        == [hostile.count(n) for n in numbers]
    )
    assert "Who?< FINAL>" in tokenizer.decode(hostile)


def test_a_tokenizer_that_joins_a_prompt_with_the_answer_is_refused() -> None:
    tokenizer = deepcopy(tokenizer_of("bytes-llama3"))
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content + '\nA:' }}{% else %}{{ m.content + eos_token }}"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(UsageError, match="merges the end of a prompt and the start of an answer into one token"):
        ChatFormat(tokenizer)
