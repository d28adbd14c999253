"""Optimizers of torch without what they bring along for its compiler."""

import inspect

import torch

_BASE = torch.optim.Optimizer


class Uncompiled:
    """Leaves out what tells torch's compiler to stay away from an optimizer: it imports the compiler.

    That would take as long as importing torch. An optimizer is not compiled here; the model may be.
    """

    def __init_subclass__(cls) -> None:
        if "step" not in vars(cls):
            cls.step = torch.no_grad()(inspect.unwrap(cls.step))  # type: ignore[attr-defined]

    add_param_group = inspect.unwrap(_BASE.add_param_group)
    zero_grad = inspect.unwrap(_BASE.zero_grad)
    state_dict = inspect.unwrap(_BASE.state_dict)
    load_state_dict = inspect.unwrap(_BASE.load_state_dict)
