"""Reports of a run, made from its stored cells alone: tables, figures, galleries of maps, and a page to open in a browser."""
