"""What a user chooses from by name, in words. Imports nothing."""

#: The profiles of a configuration.
PROFILES = {
    "demo": "12 s per method and category on 2 cores, 64 px: to see that everything works",
    "quick": "about a minute per method and category on 2 cores, 128 px (AnoSeg 96): to explore",
    "full": "256 px and whole schedules: for results to publish",
}

#: What `--rerun` takes.
RERUN = {
    "missing": "what has no result, failed cells too (default)",
    "failed": "only these",
    "stale": "also cells made by other code of their method",
    "all": "everything",
}
