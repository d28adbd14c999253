"""Private names of OmegaConf: what stands in a config before its interpolations are resolved."""

from typing import Any

from omegaconf import DictConfig, Node

MISSING = "???"


def node_of(config: DictConfig, key: str) -> Any:
    """Return the node at `key`, not resolved: any public access resolves it, or raises where it cannot."""
    return config._get_node(key)


def raw_value(node: Node) -> Any:
    """Return what stands in a node: a value, the text of an interpolation, None, `MISSING`, or the nodes below it."""
    return node._value()
