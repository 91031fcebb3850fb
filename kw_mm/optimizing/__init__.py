"""Making trained networks faster, for inference only: any of torch's, with or without OpenMMLab."""

from .folding import find_pairs, fold_norms
from .inference_only import optimize_for_inference

__all__ = ['find_pairs', 'fold_norms', 'optimize_for_inference']
