"""Commands that other code bases' scripts can call instead of their own."""
