"""What a pod needs beside its stage: Kubeflow's output files, a TrainJob over several nodes, the word to a webhook."""
