"""A prior over data sets."""
