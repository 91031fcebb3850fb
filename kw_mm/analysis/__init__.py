"""What a model costs and how its warehouses are laid out: parameters, multiply-adds, cells, mixtures."""
from .complexity import Cost, count_costs
from .forward import forward_once
from .warehouses import WarehouseRow, describe_warehouses

__all__ = ['Cost', 'WarehouseRow', 'count_costs', 'describe_warehouses', 'forward_once']
