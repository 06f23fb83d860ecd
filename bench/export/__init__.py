"""Trained models as files that need nothing of this program: written, checked, described, timed."""
