"""Pairs (data set, architecture): their store and their generation."""
