"""A service that judges files over HTTP: what comes in, the work in processes that may die, what goes out.

In: uploads of strangers, and a function that makes the work in a process. Out: verdicts, reports and overlays, for a
while; figures for Prometheus. It knows neither the judge nor the registry; of emd_core it uses the form of a verdict.
"""
