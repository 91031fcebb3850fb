"""Errors that are the user's to mend."""


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what would work."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that does not fit the model."""


class ConfigError(UserError):
    """A part of a config that cannot be built."""


class ImageError(UserError):
    """An image file that is missing, damaged or cut short."""


class BatchSizeError(UserError, ValueError):
    """A batch of one image, of which a batch norm has no statistics."""
