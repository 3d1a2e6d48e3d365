"""The error classes. A message says, in one line, what was read, what was expected and what to do."""


class BodydoubleError(Exception):
    """Base of every error that bodydouble raises on purpose."""

    exit_code = 1
    """Exit status of the command line when this error reaches it."""


class InputError(BodydoubleError):
    """What the user handed in cannot be used: a file, a folder or an option."""

    exit_code = 2


class RecordingError(InputError):
    """A recording is damaged, incomplete or not of the expected form."""


class ContractError(InputError):
    """A policy file does not agree with its contract, or the contract with the robot or stage."""


class PhysicsError(BodydoubleError):
    """A simulation diverged; the message names the file that holds the state."""


class TrainingError(BodydoubleError):
    """Learning diverged or was interrupted; the message names the file that holds the state."""


class GateError(BodydoubleError):
    """A quality gate was measured and not met."""
