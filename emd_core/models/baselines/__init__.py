"""The detectors that the paper compares with, each in a file of its own, after its publication.

In: face crops, RGB in [0, 1]. Out: class logits, and mask logits where it localises. Uses models and storage.
"""
