"""Replay: general conversations among the examples, so that the model keeps what it could do before.

The answers are the base model's own, with the most likely tokens, written before the first step. They teach nothing
new; they hold the model where it was.
"""
