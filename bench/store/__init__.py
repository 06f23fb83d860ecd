"""What is kept: cells, runs, claims, and how a result came about."""
