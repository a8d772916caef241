"""Measures this package beside its peers; ``make bench`` runs all of it."""
