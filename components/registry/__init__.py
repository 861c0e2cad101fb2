"""The model registry: versions and aliases, the served model, the record of where a model comes from.

In: a checkpoint and a decision. Out: a version that was loaded and asked before it may be champion. Uses tracking.
"""
