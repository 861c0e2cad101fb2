"""The stages together. At its root lie the verbs of `python -m pipelines`, the DAG, and the cluster that it runs on."""
