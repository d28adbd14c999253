"""Has optimizers take parameters of every type when they are asked for their fused kernels."""

from typing import Any

from torch.optim import Optimizer


class FusedIfReal(Optimizer):
    """Leaves `fused` out for a group with complex parameters, of which torch's fused kernels know nothing."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["fused"] and any(parameter.is_complex() for parameter in group["params"]):
            group["fused"] = None  # torch chooses among its other ways
