"""Errors that are the user's to mend."""


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what would work."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that does not fit the model."""
