"""How a process starts, computes, prints and stops, and the processes that it starts."""
