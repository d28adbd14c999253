"""AdamW and SGD of torch, the same to the bit, with less time between their kernels."""

import inspect
from typing import Any

import torch
from torch import Tensor

from reprise.optimization.fused_if_real import FusedIfReal
from reprise.optimization.uncompiled import Uncompiled
from reprise.private_names.torch import fused_adamw_, has_step_hooks


class SGD(FusedIfReal, Uncompiled, torch.optim.SGD):
    """`torch.optim.SGD`, the same to the bit."""


class AdamW(FusedIfReal, Uncompiled, torch.optim.AdamW):
    """`torch.optim.AdamW`, the same to the bit. Where nothing else is asked, it calls its kernel directly."""

    _tensors: list[tuple[list[Tensor], ...]] | None = None
    """Of each parameter group: parameters, first moments, second moments, numbers of steps; None until they exist."""
    _num_steps: Tensor
    """What the numbers of steps of all parameters are parts of, so that they are counted in one go."""
    _divisor: Tensor | None = None
    """Of the gradients, for the next step."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._tensors = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._tensors = None

    def divide_gradients(self, divisor: Tensor) -> bool:
        """Have the next step divide all gradients by a tensor without dimensions; return False where it cannot."""
        if divisor.dtype != torch.float32:  # the kernel reads no other, whatever the gradients are
            return False
        if self._tensors is None and not all(group["fused"] for group in self.param_groups):
            return False
        self._divisor = divisor
        return True

    def step(self, closure: Any = None) -> Any:
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.step(closure)
        # `found_inf` is there during a step in half precision.
        if (
            self._tensors is not None
            and closure is None
            and getattr(self, "found_inf", None) is None
            and not has_step_hooks(self)
        ):
            gradients = [
                [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
                for parameters, *_ in self._tensors
            ]
            if all(len(a) == len(b[0]) for a, b in zip(gradients, self._tensors, strict=True)):
                self._step_directly(gradients)
                return None
        if self._divisor is None:
            loss = _observed_step(self, closure)
        else:
            self.grad_scale, self._divisor = self._divisor, None  # torch's name for it
            loss = _observed_step(self, closure)
            del self.grad_scale
        self._tensors = self._gather()
        return loss

    # Otherwise torch puts its own observers around it at once.
    step.hooked = True  # type: ignore[attr-defined]

    def _gather(self) -> list[tuple[list[Tensor], ...]] | None:
        """Return the tensors of the state, or None where the kernel is not for them."""
        for group in self.param_groups:
            special = any(group[name] for name in ("amsgrad", "maximize", "differentiable"))
            if special or not group["fused"] or isinstance(group["lr"], Tensor):
                return None
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        if len({(parameter.device, parameter.dtype) for parameter in parameters}) != 1:
            return None
        if not all(parameter in self.state for parameter in parameters):
            return None
        self._num_steps = torch.stack([self.state[parameter]["step"] for parameter in parameters])
        for parameter, num_steps in zip(parameters, self._num_steps.unbind(), strict=True):
            self.state[parameter]["step"] = num_steps
        return [
            (group["params"], *([self.state[p][name] for p in group["params"]] for name in _STATES))
            for group in self.param_groups
        ]

    def _step_directly(self, gradients: list[list[Tensor]]) -> None:
        assert self._tensors is not None
        self._num_steps.add_(1)
        divisor, self._divisor = self._divisor, None
        for group, (parameters, first, second, steps), of_group in zip(
            self.param_groups, self._tensors, gradients, strict=True
        ):
            fused_adamw_(
                parameters,
                of_group,
                first,
                second,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=divisor,
            )


_STATES = ("exp_avg", "exp_avg_sq", "step")
_observed_step = torch.optim.Optimizer.profile_hook_step(inspect.unwrap(torch.optim.AdamW.step))
