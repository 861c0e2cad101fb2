"""Scores become figures, figures a decision.

In: a detector's scores of the test split. Out: figures per slice with their intervals, the gate's decision. Uses
detection, models and storage.
"""
