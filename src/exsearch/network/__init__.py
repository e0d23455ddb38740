"""How other machines are spoken with."""
