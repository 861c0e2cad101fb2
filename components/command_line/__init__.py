"""A stage's signature as its command line, what Kubeflow hands over and takes, and how a command ends.

In: the words of a command line, or of a Kubeflow task. Out: one call of a stage; a sentence and exit code 2 where the
user can mend it.
"""
