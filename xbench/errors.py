"""Errors that are one clear sentence for the person at the keyboard."""


class XbenchError(Exception):
    """A mistake or limit that the user can act on; the command line prints it and exits.

    Attributes:
        exit_code: of the command line.
    """

    exit_code: int = 2


class UnknownNameError(XbenchError):
    """A name that no registered entry carries; the message offers the nearest ones."""


class ParameterError(XbenchError):
    """An unknown hyper-parameter, or a value of the wrong kind or range."""


class DataError(XbenchError):
    """Images, labels or masks that cannot be read or do not fit."""


class ModelError(XbenchError):
    """A model or weights file that cannot be loaded or does not fit."""


class RunError(XbenchError):
    """A run folder that cannot be written, read or resumed."""


class StoppedError(RunError):
    """A run that a signal stopped; what is finished is kept and the message says how to go on.

    Args:
        message: the sentence.
        signal: number of the signal; the command line exits with 128 more, as shells do.
    """

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class UnsupportedError(XbenchError):
    """A method or metric cannot be right on this model or data; the cell is refused with it."""


class InvalidMapError(XbenchError):
    """A method returned what is no explanation (wrong shape, NaN, blind); its cell is `invalid`."""
