"""The dotted path is the registry: finds what a `_target_` names, checks its arguments, and calls it.

Only trusted packages are imported from: the parts of `reprise` that runs are made of, the packages beside it under
`src/`, `torch.optim`, the samplers and pruners of `optuna`, and what the config lists as `trusted_packages`. The object
found must be defined in one of them too, so that a module's imports are not within reach. Not all of `reprise`: a
config that could call what resumes, repeats or loads another run could name that run's code as trusted.
"""

import importlib
import importlib.util
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from reprise.config.checking import conform, show
from reprise.config.secrets import HIDDEN
from reprise.errors import ConfigError, InputError, Problem
from reprise.text.suggestions import instead

_SOURCE_ROOT = Path(__file__).resolve().parents[2]
_OWN_PARTS = (
    *("callbacks", "data", "metrics", "models", "optimization", "runs.persisters"),
    *("tools.model_card.callback", "tools.plots.callback", "tools.sweep.pruning"),
    *("trackers.mlflow", "trackers.tensorboard", "trackers.wandb"),
)
_OWN_PACKAGES = ("reprise", "hydra_plugins")
_TRUSTED = (*(f"reprise.{part}" for part in _OWN_PARTS), "torch.optim", "optuna.samplers", "optuna.pruners")


def find_target(path: Any, trusted_packages: Iterable[str] = ()) -> Callable[..., Any]:
    """Return the function or class at the dotted `path`.

    Raises:
        InputError: if it is not there, cannot be imported, is not callable or is not trusted.
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise InputError(f"expected a dotted path such as package.module.name, got {show(path)}")
    trusted = tuple(trusted_packages)
    if not _is_trusted(path, trusted):
        raise InputError(
            f"{path!r} is in no trusted package: reprise ({', '.join(_OWN_PARTS)}), torch.optim, those under src/ and "
            "those in trusted_packages; add its package there if you trust its code"
        )
    module_name, _, rest = path.rpartition(".")
    attributes = [rest]
    while True:
        try:
            found: Any = importlib.import_module(module_name)
            break
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
                raise InputError(f"{path!r}: {module_name} needs {error.name}, which is not installed") from None
            module_name, dot, rest = module_name.rpartition(".")
            if not dot:
                raise InputError(f"there is no module for {path!r}") from None
            attributes.insert(0, rest)
        except Exception as error:
            raise InputError(
                f"{path!r}: importing {module_name} failed with {type(error).__name__}: {error}"
            ) from error
    for attribute in attributes:
        if not hasattr(found, attribute):
            names = [name for name in dir(found) if not name.startswith("_")]
            raise InputError(f"{path!r}: there is no {attribute!r}; {instead(attribute, names)}")
        found = getattr(found, attribute)
    if not callable(found):
        raise InputError(f"{path!r} is not a function or class but {type(found).__name__}")
    home = getattr(found, "__module__", None) or ""
    if not _is_trusted(home + ".", trusted):
        raise InputError(f"{path!r} is defined in {home!r}, which is no trusted package; add it to trusted_packages")
    return typing.cast(Callable[..., Any], found)


def check_target(
    spec: Mapping[str, Any],
    key: str,
    problems: list[Problem],
    *,
    trusted_packages: Iterable[str] = (),
    provided: Collection[str] = (),
    beside: Collection[str] = (),
    open_ended: bool = False,
) -> Callable[..., Any] | None:
    """Check a `_target_` and its arguments against its signature; return the target, or None if it is not found.

    `provided`: names of arguments that the run gives itself, which the config must not. `beside`: other keys that may
    stand in the same section. `open_ended`: the run may give more than that, so a missing argument is no problem yet.
    """
    if "_target_" not in spec:
        problems.append(Problem(f"{key}._target_", "missing: expected a dotted path such as package.module.name"))
        return None
    try:
        target = find_target(spec["_target_"], trusted_packages)
    except InputError as error:
        problems.append(Problem(f"{key}._target_", str(error)))
        return None
    parameters, hints, takes_any = parameters_of(target)
    given = {name: value for name, value in spec.items() if name != "_target_"}
    for name, value in given.items():
        if HIDDEN in str(value):
            message = f"a secret, which no run records; give it again as {key}.{name}=…, or have your code read it"
            problems.append(Problem(f"{key}.{name}", message))
        elif name in provided:
            problems.append(Problem(f"{key}.{name}", f"the run gives this argument to {target.__name__} itself"))
        elif name in parameters:
            if isinstance(value, Mapping) and "_target_" in value:
                check_target(value, f"{key}.{name}", problems, trusted_packages=trusted_packages)
            else:
                conform(value, hints.get(name, Any), f"{key}.{name}", problems)
        elif not takes_any:
            advice = instead(str(name), {*parameters, *beside} - set(provided), f"{key}.")
            problems.append(Problem(f"{key}.{name}", f"{spec['_target_']} takes no such argument; {advice}"))
    if not open_ended:
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in given and name not in provided:
                problems.append(Problem(f"{key}.{name}", f"missing: {spec['_target_']} needs it"))
    return target


def takes(target: Callable[..., Any], name: str) -> bool:
    """Return whether `target` has a parameter of this name."""
    return name in parameters_of(target)[0]


def complete(
    spec: Mapping[str, Any], provided: Mapping[str, Any], trusted_packages: Iterable[str] = ()
) -> dict[str, Any]:
    """Return `spec` with those of `provided` that its target takes by name and that it does not give itself.

    Raises:
        InputError: if the target is not found.
    """
    parameters, _, _ = parameters_of(find_target(spec.get("_target_"), trusted_packages))
    return dict(spec) | {name: value for name, value in provided.items() if name in parameters and name not in spec}


def build(spec: Mapping[str, Any], key: str, trusted_packages: Iterable[str] = (), **provided: Any) -> Any:
    """Call a `_target_` with its arguments, and with those of `provided` that it takes by name and that are not given.

    Raises:
        ConfigError: if an argument is missing, unknown or does not fit.
    """
    problems: list[Problem] = []
    target = check_target(spec, key, problems, trusted_packages=trusted_packages, open_ended=True)
    if target is None or problems:
        raise ConfigError(problems)
    parameters, hints, _ = parameters_of(target)
    arguments = {
        name: build(value, f"{key}.{name}", trusted_packages)
        if isinstance(value, Mapping) and "_target_" in value
        else conform(value, hints.get(name, Any), f"{key}.{name}", problems)
        for name, value in spec.items()
        if name != "_target_"
    }
    arguments |= {name: value for name, value in provided.items() if name in parameters and name not in arguments}
    problems += [
        Problem(f"{key}.{name}", f"missing: {spec['_target_']} needs it, and neither the config nor the data gives it")
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in arguments
    ]
    if problems:
        raise ConfigError(problems)
    try:
        return target(**arguments)
    except ValueError as error:
        raise InputError(f"{key}: {spec['_target_']} refuses its arguments: {error}") from error


def parameters_of(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any], bool]:
    """Return the parameters that can be given by name, their annotations, and whether any other name is taken."""
    all_parameters = inspect.signature(target).parameters.values()
    by_name = {p.name: p for p in all_parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in all_parameters)
    annotated: Any = target
    if isinstance(target, type) and target.__init__ is not object.__init__:  # type: ignore[misc]
        annotated = target.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(annotated, include_extras=True)
    except Exception:  # a target may annotate with names that exist for type checkers only
        hints = {}
    return by_name, hints, takes_any


def _is_trusted(path: str, trusted_packages: Iterable[str]) -> bool:
    package = path.split(".")[0]
    if any(path.startswith(f"{prefix}.") for prefix in (*_TRUSTED, *trusted_packages)):
        return True
    return (
        _SOURCE_ROOT.name == "src"
        and package not in _OWN_PACKAGES
        and any((_SOURCE_ROOT / name).exists() for name in (package, f"{package}.py") if package.isidentifier())
    )
