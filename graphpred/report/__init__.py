"""What the terminal shows of pairs, models and networks."""
