"""What modules of different families have in common, for callers that need no more of them."""

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
class AssemblesKernels(Protocol):
    """A layer that makes its kernel for every image anew."""

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of making one image's kernel."""
        ...
