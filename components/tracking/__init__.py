"""A stage's run in MLflow, and what it keeps while the server is away.

In: parameters, figures, pictures, files. Out: the run, with its code, data and machine. It changes no stage's output,
so no stage depends on it.
"""
