"""A Kubeflow Pipelines server: what is asked of it, and the options that its commands share."""
