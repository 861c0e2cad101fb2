"""The paper and the data plane: networks, training, figures; videos, faces, tables. It knows no MLflow, DVC, Kubeflow.

Files at its root are what every room may use: parameters, what a user hands over and the errors in it, work spread over
processes.
"""
