"""The paper and the data plane: networks, training, figures; videos, faces, tables. It knows no MLflow, DVC, Kubeflow.

Files at its root are what every room may use: parameters, errors a user can mend, work spread over processes.
"""
