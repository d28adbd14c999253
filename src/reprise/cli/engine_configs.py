"""Has Hydra find the config files that come with the engine, behind those in `configs/`, which win."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

ENGINE_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_SHOWN_AS = "src/reprise/configs"


class EngineConfigs(SearchPathPlugin):
    """Appends the engine's files to the search path. A user's `train.yaml` need not name them, and cannot lose them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("reprise", f"file://{ENGINE_CONFIGS}")


def make_findable() -> None:
    """Register the plugin. Hydra would find it by itself only in a scan of all plugins at each start."""
    Plugins.instance().register(EngineConfigs)


def shown(directory: Path, config_path: str) -> str:
    """Return how messages name a config file that lies in a directory of the search path."""
    place = _SHOWN_AS if directory == ENGINE_CONFIGS else directory.name
    return f"{place}/{config_path}.yaml"
