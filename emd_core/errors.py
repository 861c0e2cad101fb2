"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Bad input. The message is one sentence: what, where, the rule and the remedy.

    The command line prints it and exits with 2; anything else is our mistake and shows a traceback.
    """
