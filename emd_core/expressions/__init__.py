"""The expression stream: X^F of Algorithm 1.

In: a folder of expression faces (AffectNet, FER+, RAF-DB). Out: the trained expression network. Uses training, models
and storage.
"""
