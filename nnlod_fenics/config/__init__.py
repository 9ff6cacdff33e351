"""Settings: of a run (one TOML file), of a training, of Monte Carlo. Loads neither PyTorch nor VTK."""

from nnlod_fenics.config.montecarlo import MonteCarloSection, MonteCarloSettings
from nnlod_fenics.config.reference import Setting, describe_settings, settings_toml
from nnlod_fenics.config.settings import Config, load_config, write_config
from nnlod_fenics.config.training import PAPER, TrainingSettings, settings_of_network

__all__ = [
    "PAPER",
    "Config",
    "MonteCarloSection",
    "MonteCarloSettings",
    "Setting",
    "TrainingSettings",
    "describe_settings",
    "load_config",
    "settings_of_network",
    "settings_toml",
    "write_config",
]
