"""The grammars by name: built-in ones, and a user's own as `module:Class`."""

from exsearch.agent.grammar import ExSearchGrammar, Grammar
from exsearch.agent.grammars.fixed import ClosedBookGrammar, OneShotGrammar
from exsearch.agent.grammars.ircot import IRCoTGrammar
from exsearch.agent.grammars.r1_searcher import R1SearcherGrammar
from exsearch.agent.grammars.search_r1 import SearchR1Grammar, ZeroSearchGrammar
from exsearch.agent.grammars.selecting import SelectingGrammar
from exsearch.agent.grammars.self_ask import SelfAskGrammar
from exsearch.config import AgentConfig
from exsearch.core.errors import UsageError
from exsearch.core.registry import Registry

GRAMMARS = Registry[type[Grammar]](
    "grammar",
    {
        "exsearch": ExSearchGrammar,
        "exsearch-select": SelectingGrammar,
        "closed-book": ClosedBookGrammar,
        "one-shot": OneShotGrammar,
        "ircot": IRCoTGrammar,
        "self-ask": SelfAskGrammar,
        "search-r1": SearchR1Grammar,
        "zerosearch": ZeroSearchGrammar,
        "r1-searcher": R1SearcherGrammar,
    },
    setting="agent.grammar",
)


def grammar_class(name: str) -> type[Grammar]:
    """Return the grammar with a name. Raises UsageError if there is none."""
    value = GRAMMARS.ours_or_own(name)
    if not (isinstance(value, type) and issubclass(value, Grammar)):
        raise UsageError(f"agent.grammar = {name}: not a class derived from exsearch.Grammar")
    if methods := sorted(value.__abstractmethods__):
        raise UsageError(f"agent.grammar = {name}: lacks the methods {', '.join(methods)}")
    grammar: type[Grammar] = value
    return grammar


def is_one_turn(name: str) -> bool:
    """Return whether, in the grammar with this name, everything happens within one turn of the model."""
    return bool(grammar_class(name).stops)


def wording(config: AgentConfig) -> tuple[str, str]:
    """Return the settings that determine a grammar; grammars with equal ones are interchangeable."""
    return config.grammar, config.prompt


def make_grammar(config: AgentConfig) -> Grammar:
    """Return the grammar that the settings name.

    Raises UsageError for a prompt without {question}, and for a user's own class that is not a `Grammar`.
    """
    if config.prompt and "{question}" not in config.prompt:
        raise UsageError("agent.prompt: write {question} where the question goes")
    grammar = grammar_class(config.grammar)(config.prompt)
    grammar.name = config.grammar
    return grammar
