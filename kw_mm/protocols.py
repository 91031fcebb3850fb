"""What layers and networks of different families have in common, for those that ask for it."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class TemperatureControlled(Protocol):
    """A network or layer whose attention has a temperature.

    KernelWarehouse's tau goes from 1 (plain) to 0 (its own attention), the compared convolutions'
    softmax temperature T from 30 to 1.
    """

    def set_temperature(self, value: float) -> None:
        """Set the temperature of the module and of all layers in it.

        Raises:
            ValueError: A value outside the module's range.
        """
        ...


@runtime_checkable
class MakesKernels(Protocol):
    """A layer whose kernel is made for each image anew."""

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of making one image's kernel; 0 where only features are multiplied."""
        ...


@runtime_checkable
class FusesFeatures(Protocol):
    """A layer that does more at each position of its output than convolve."""

    @property
    def fusion_macs(self) -> int:
        """Multiply-adds of that at one position."""
        ...
