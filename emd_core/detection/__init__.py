"""The detection stream: X^M of Algorithm 1.

In: crops and masks of a split. Out: the trained detector; its scores of crops and the counts behind every figure. Uses
training, models and storage.
"""
