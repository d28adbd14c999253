"""The config files that Hydra composes: those in `configs/`, and behind them those of the engine.

A file in `configs/` wins over one of the engine of the same name.
"""

from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

CONFIG_NAME = "train"
ENGINE_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_SHOWN_AS = "src/reprise/configs"


class EngineConfigs(SearchPathPlugin):
    """Appends the engine's files to the search path. A user's `train.yaml` need not name them, and cannot lose them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("reprise", f"file://{ENGINE_CONFIGS}")


def make_findable() -> None:
    """Register the plugin. Hydra would find it by itself only in a scan of all plugins at each start."""
    Plugins.instance().register(EngineConfigs)


def initialized(config_dir: Path) -> initialize_config_dir:
    """Return the context in which Hydra composes files of `config_dir`."""
    make_findable()
    return initialize_config_dir(str(config_dir), version_base="1.3", job_name=CONFIG_NAME)


def loader() -> ConfigLoader:
    """Return what knows the config groups and their options, while Hydra is initialized."""
    return GlobalHydra.instance().config_loader()


def shown(directory: Path, config_path: str) -> str:
    """Return how messages name a config file that lies in a directory of the search path."""
    place = _SHOWN_AS if directory == ENGINE_CONFIGS else directory.name
    return f"{place}/{config_path}.yaml"
