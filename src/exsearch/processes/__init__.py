"""How a process starts, computes, prints and stops, and what it starts."""
