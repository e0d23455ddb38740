"""ExSearch trains and runs agentic-search language models by expectation-maximisation."""

__version__ = "0.1.0"
