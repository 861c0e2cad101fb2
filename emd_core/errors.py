"""The exceptions that the command line turns into one sentence and an exit code."""

import errno


class UserError(Exception):
    """Bad input. The message is one sentence: what, where, the rule and the remedy.

    The command line prints it and exits with 2; anything else is our mistake and shows a traceback.
    """


class Preempted(Exception):
    """SIGTERM stopped a training. The message says where, and that a restart goes on; the exit code is 143."""


PERMISSION = "{} may not be read or written; mend its permissions."
FAILING = "the disk of {} fails ({}); check it or its network, and start again."
IN_THE_WAY = "{} cannot be used ({}); name a place whose parents are folders, or move away what lies there."
# Faults of a place, which the user can mend; the path, and the system's word for it, are filled in.
PLACES = {
    errno.ENOSPC: "the disk is full ({}); free some space and start again, nothing is lost.",
    errno.EDQUOT: "the disk quota is used up ({}); free some space and start again, nothing is lost.",
    errno.EFBIG: "{} grew larger than its file system or `ulimit -f` allows; name another place or raise the limit.",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: "{} cannot be written, as it lies on a disk that is mounted read-only; name another place.",
    errno.EISDIR: "{} is a folder, where a file must be; name the file, or move the folder away.",
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.ENOTEMPTY: IN_THE_WAY,
    errno.ELOOP: IN_THE_WAY,
    errno.ENAMETOOLONG: "{} is longer than a path may be; name a shorter one.",
    errno.EBUSY: "{} is in use or a mount point, which cannot be replaced; name a folder within it.",
    errno.EXDEV: "{} is a mount point, which cannot be replaced; name a folder within it.",
    errno.EMFILE: "too many files are open ({}); raise the limit (`ulimit -n`) or use fewer workers.",
    errno.ENFILE: "too many files are open on this machine ({}); end other programs or raise its limit.",
    errno.EIO: FAILING,
    errno.ESTALE: FAILING,
    errno.ENXIO: FAILING,
    errno.ENODEV: FAILING,
    errno.ETIMEDOUT: FAILING,
}


def fault_of_place(error: OSError) -> str | None:
    """One sentence with the path and the remedy; None where no place is at fault."""
    said = PLACES.get(error.errno or 0)
    if said is None or (error.filename is None and error.errno == errno.ETIMEDOUT):  # that was a server
        return None
    return said.format("a file" if error.filename is None else error.filename, error.strerror)
