"""What every training shares: going on after a stop, several processes, what is left beside the checkpoint.

In: a model and its optimizer. Out: a state on disk from which a training ends as if it had never stopped. Uses models
and storage.
"""
