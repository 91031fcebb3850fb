"""Dtypes of half size that the CPU computes in: torch 2.1 and 2.2 have only bfloat16."""

import torch

HALF = [torch.bfloat16] + ([torch.float16] if hasattr(torch.amp, 'GradScaler') else [])
