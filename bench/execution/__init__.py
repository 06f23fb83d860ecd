"""How cells are carried out: what is left to run, the loop, the worker, the engines."""
