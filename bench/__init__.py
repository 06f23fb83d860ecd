"""The harness: command line, plan, cells, store, metrics and report."""
