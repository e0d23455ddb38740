"""Commands of other code bases, for scripts that call them."""
