"""The grammars by name."""

from exsearch.agent.grammar import ExSearchGrammar, Grammar
from exsearch.agent.grammars.fixed import ClosedBookGrammar, OneShotGrammar
from exsearch.agent.grammars.ircot import IRCoTGrammar
from exsearch.agent.grammars.r1_searcher import R1SearcherGrammar
from exsearch.agent.grammars.search_r1 import SearchR1Grammar, ZeroSearchGrammar
from exsearch.agent.grammars.self_ask import SelfAskGrammar
from exsearch.config import AgentConfig, GrammarName
from exsearch.core.errors import UsageError

GRAMMARS: dict[GrammarName, type[Grammar]] = {
    "exsearch": ExSearchGrammar,
    "closed-book": ClosedBookGrammar,
    "one-shot": OneShotGrammar,
    "ircot": IRCoTGrammar,
    "self-ask": SelfAskGrammar,
    "search-r1": SearchR1Grammar,
    "zerosearch": ZeroSearchGrammar,
    "r1-searcher": R1SearcherGrammar,
}


def is_one_turn(name: str) -> bool:
    """Return whether in the grammar of this name all is said within one turn of the model."""
    return any(kind.name == name and kind.stops for kind in GRAMMARS.values())


def make_grammar(config: AgentConfig) -> Grammar:
    """Return the grammar that the settings name; raises UsageError for a prompt without a place for the question."""
    if config.prompt and "{question}" not in config.prompt:
        raise UsageError("agent.prompt: write {question} where the question goes")
    return GRAMMARS[config.grammar](config.prompt)
