"""The exceptions that the command line turns into one sentence and an exit code."""


class UserError(Exception):
    """Bad input. The message is one sentence: what, where, the rule and the remedy.

    The command line prints it and exits with 2; anything else is our mistake and shows a traceback.
    """


class Preempted(Exception):
    """SIGTERM stopped a training. The message says where, and that a restart goes on; the exit code is 143."""
