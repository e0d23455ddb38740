"""Tokenizers of the kinds that models have, trained on a page of text, and chat templates of the kinds they have.

The templates are in own words; what they are like is said beside each.
"""

import json
from collections.abc import Callable
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = [
    "Answer the question by searching. Write <QUERY> and what to look up. After each search write <FACT> and what",
    "you found, then the next <QUERY>, or <FINAL> once you know enough. Please give the final answer to the question.",
    "<SEARCH>\n[1] Title: France Content: Its capital is Paris.\n[2] Title: Italy Content: Its capital is Rome.",
    "<FACT> It was designed by Ilse Kranmar and opened in 1931. <QUERY> In which country was Ilse Kranmar born?",
    "user\nassistant\nsystem\n[INST] Who was it? [/INST] Ann Lee!</s> Which one? (a) one “why”: it; ok...",
    "Reason towards the answer to the question, one sentence at a time: Follow up: Intermediate answer: So the final",
    "It is so:Paris, and so:Paris once more, so:Paris again and so:Paris at last.",
    "Today is the 4th of July 1976 and 2026, or 13 January.  Two blanks,\n\ntwo lines, \t a tab - and a dash.",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|header|>", "<|/header|>", "<|eot|>"]
SPECIAL += ["<|channel|>", "<|message|>", "<|return|>"]
SWALLOWING = ["<|asks|>", "<|says|>", "<|fin|>"]
"""Special, and white space after them is taken for a part of them."""
ORDINARY = [
    "<think>",
    "</think>",
    "<tool_call>",
    "<\uff5cUser\uff5c>",
    "<\uff5cAssistant\uff5c>",
    "<|user|>",
    "<|assistant|>",
]
"""Added, but not flagged as special."""
_LLAMA3 = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _bytes(regex: str | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=regex is not None))
    tokenizer.decoder = decoders.ByteLevel()
    if regex is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(regex), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _metaspace(kind: str, scheme: str) -> Tokenizer:
    """Like SentencePiece's: blanks are letters, and one is put in front always, only at the beginning, or never."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>") if kind == "bpe" else models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme), decoders.Fuse()]
    )
    return _with_bytes(tokenizer, kind)


def _legacy() -> Tokenizer:
    """Like Llama 2's: a blank is put in front of every stretch between control tokens; words are not split."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = _with_bytes(tokenizer, "bpe")
    tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _with_bytes(tokenizer: Tokenizer, kind: str) -> Tokenizer:
    """Train; put `<unk>`, the sentence marks and a token for each byte in front, as SentencePiece has them."""
    trainer = (
        trainers.BpeTrainer(vocab_size=400, show_progress=False)
        if kind == "bpe"
        else trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    data = json.loads(tokenizer.to_str())
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = data["model"] | {"byte_fallback": True}
    if kind == "bpe":
        learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
        model["vocab"] = {token: id_ for id_, token in enumerate([*first, *(t for t in learned if t not in first)])}
    else:
        learned = [pair for pair in model["vocab"] if pair[0] not in first]
        model["vocab"] = [[token, 0.0] for token in first] + learned
        model["unk_id"] = 0
    data |= {"model": model, "added_tokens": []}
    return Tokenizer.from_str(json.dumps(data))


def _normalising() -> Tokenizer:
    """Its control tokens, too, are looked for in normalised text."""
    tokenizer = _bytes(None)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": lambda: _bytes(None),
    "bytes-normalised": _normalising,
    "bytes-llama3": lambda: _bytes(_LLAMA3),
    "metaspace-always": lambda: _metaspace("bpe", "always"),
    "metaspace-first": lambda: _metaspace("bpe", "first"),
    "metaspace-never": lambda: _metaspace("bpe", "never"),
    "unigram-always": lambda: _metaspace("unigram", "always"),
    "unigram-first": lambda: _metaspace("unigram", "first"),
    "unigram-never": lambda: _metaspace("unigram", "never"),
    "legacy": _legacy,
}

_EACH = "{% for m in messages %}"
_END = "{% endfor %}"
TEMPLATES: dict[str, str | None] = {
    # a base model without one
    "none": None,
    # Qwen 2.5, SmolLM2
    "chatml": (
        _EACH
        + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Llama 3
    "header": (
        "{{ bos_token }}"
        + _EACH
        + "{{ '<|header|>' + m.role + '<|/header|>\n\n' + m.content + '<|eot|>' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|header|>assistant<|/header|>\n\n' }}{% endif %}"
    ),
    # Mistral v0.3: a blank before the answer, and no prompt for it
    "inst": (
        "{{ bos_token }}" + _EACH + "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}" + _END
    ),
    # Llama 2: a blank after it, too
    "inst-both": (
        _EACH + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}" + _END
    ),
    # Zephyr, TinyLlama: roles are plain text
    "roles": (
        _EACH
        + "{{ '<<' + m.role + '>>\n' + m.content + eos_token + '\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<<assistant>>\n' }}{% endif %}"
    ),
    # Vicuna: one line, the prompt ends in a word
    "line": (
        _EACH + "{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
        "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # DeepSeek V3: markers that are not flagged as special
    "markers": (
        "{{ bos_token }}" + _EACH + "{% if m.role == 'user' %}{{ '<\uff5cUser\uff5c>' + m.content }}"
        "{% else %}{{ '<\uff5cAssistant\uff5c>' + m.content + eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<\uff5cAssistant\uff5c>' }}{% endif %}"
    ),
    # GLM 4: a turn ends where the next one begins, and a line feed stands before the answer
    "next-role": (
        _EACH + "{% if m.role == 'user' %}{{ '<|user|>\n' + m.content }}{% else %}{{ '<|assistant|>\n' + m.content }}"
        "{% endif %}" + _END + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    # Phi-3: its control tokens swallow the line feeds after them
    "swallowing": (
        _EACH
        + "{{ ('<|asks|>' if m.role == 'user' else '<|says|>') + '\n' + m.content + '<|fin|>\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|says|>\n' }}{% endif %}"
    ),
    # gpt-oss: what is no thought stands in a channel of its own
    "channel": (
        _EACH + "{% if m.role == 'user' %}{{ '<|im_start|>user<|message|>' + m.content + '<|im_end|>' }}"
        "{% else %}{{ '<|im_start|>assistant<|channel|>final<|message|>' + m.content + '<|im_end|>' }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    ),
}
"""Of these, a conversation is written as it went."""
THINKING: dict[str, str] = {
    # Qwen 3 Thinking: thinks always, and earlier thoughts are not shown
    "begun": (
        _EACH + "{% set said = m.content.split('</think>')[-1] %}"
        "{{ '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    ),
    # Qwen 3.5: the same, unless told otherwise
    "begun-switch": (
        _EACH
        + "{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
    # Qwen 3: thinks of itself, unless told otherwise
    "switch": (
        _EACH
        + "{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{% endif %}"
    ),
    # Nemotron: earlier turns have an empty thought
    "emptied": (
        _EACH + "{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
        "{% else %}{{ '<|im_start|>assistant\n<think></think>' + m.content + '<|im_end|>\n' }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    ),
    # GLM 4.5, Kimi K2 Thinking: earlier turns have an empty thought, which no prompt has
    "shown": (
        _EACH + "{% if m.role == 'user' %}{{ '<|user|>\n' + m.content }}{% else %}"
        "{{ '<|assistant|>\n<think></think>\n' + m.content }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '\n<think></think>' }}{% endif %}{% endif %}"
    ),
    # DeepSeek V3.1: without thinking, the prompt ends a thought that it has not begun
    "ended": (
        "{{ bos_token }}" + _EACH + "{% if m.role == 'user' %}{{ '<\uff5cUser\uff5c>' + m.content }}"
        "{% else %}{{ '<\uff5cAssistant\uff5c></think>' + m.content + eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<\uff5cAssistant\uff5c>' }}"
        "{% if thinking is defined and thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}{% endif %}"
    ),
}


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer with control tokens. Its template may be set: whoever needs it for longer, copies it."""
    tokenizer = KINDS[kind]()
    like = {"normalized": kind == "bytes-normalised"}
    tokenizer.add_special_tokens([AddedToken(token, special=True, **like) for token in SPECIAL])
    tokenizer.add_special_tokens([AddedToken(token, special=True, rstrip=True, **like) for token in SWALLOWING])
    tokenizer.add_tokens([AddedToken(token, special=False, **like) for token in ORDINARY])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
