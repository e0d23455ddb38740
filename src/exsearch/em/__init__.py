"""Expectation-maximisation: explore, weigh, learn, and the loop around them."""
