"""Training on many processes, registered in mmengine's root registry."""
from .wrap_policy import wrap_outside_warehouses

__all__ = ['wrap_outside_warehouses']
