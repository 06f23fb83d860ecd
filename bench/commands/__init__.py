"""The sub-commands, one module each: its arguments and its `main`."""
