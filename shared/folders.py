"""Where the user's files are on this platform: configuration, data and logs.

An environment variable of its own moves each; tests and studios with shared disks use that. ``ShotError`` is raised where one names
the home of nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from . import environment_variables
from .pasted_paths import expand_home
from .shot import ShotError

CONFIG_ENVIRONMENT, DATA_ENVIRONMENT = environment_variables.CONFIG, environment_variables.DATA
LOG_ENVIRONMENT = environment_variables.LOGS
LORA_ENVIRONMENT, MODELS_ENVIRONMENT = environment_variables.LORAS, environment_variables.MODELS
_NAME = "latentman"


def _read_folder(variable: str, named: str) -> Path:
    try:
        return expand_home(named)
    except ValueError as error:
        raise ShotError("environment", f"{variable}: {error}.") from error


def _find_folder(variable: str, usual: str | Path) -> Path:
    named = os.environ.get(variable)
    return _read_folder(variable, named) if named else Path(usual)


def config_folder() -> Path:
    """``$LATENTMAN_CONFIG``, else the platform's folder for settings; the keys lie in it."""
    return _find_folder(CONFIG_ENVIRONMENT, platformdirs.user_config_dir(_NAME, appauthor=False, roaming=True))


def data_folder() -> Path:
    """``$LATENTMAN_DATA``, else the platform's folder for data."""
    return _find_folder(DATA_ENVIRONMENT, platformdirs.user_data_dir(_NAME, appauthor=False))


def models_folder() -> Path:
    """Where models are kept that the library gets: ``$LATENTMAN_MODELS``, else ``models`` in the data folder."""
    return _find_folder(MODELS_ENVIRONMENT, data_folder() / "models")


def lora_folders() -> tuple[Path, ...]:
    """Where LoRAs are looked for that a prompt names: those of ``$LATENTMAN_LORAS``, parted as in ``PATH``, ``loras`` in the
    data folder, and those that the library has got. They may not be there."""
    named = filter(None, os.environ.get(LORA_ENVIRONMENT, "").split(os.pathsep))
    return (*(_read_folder(LORA_ENVIRONMENT, folder) for folder in named), data_folder() / "loras", models_folder() / "loras")


def jobs_folder() -> Path:
    """Where the job store keeps its jobs unless another folder is named: ``$LATENTMAN_JOBS``, else ``jobs`` in the data folder."""
    return _find_folder(environment_variables.JOBS, data_folder() / "jobs")


def backend_folder() -> Path:
    """Where *Set Up* keeps the environments of the backend unless another folder is named: ``$LATENTMAN_BACKEND``, else ``backend``
    in the data folder."""
    return _find_folder(environment_variables.BACKEND, data_folder() / "backend")


def results_folder() -> Path:
    """Where the frames of files that have never been saved are, until they are: ``$LATENTMAN_RESULTS``, else ``results`` in the
    data folder."""
    return _find_folder(environment_variables.RESULTS, data_folder() / "results")


def assets_folder() -> Path:
    """Where the library of assets is that is made for Blender's Asset Browser: ``assets`` in the data folder."""
    return data_folder() / "assets"


def log_folder() -> Path:
    """``$LATENTMAN_LOGS``, else the platform's folder for logs."""
    return _find_folder(LOG_ENVIRONMENT, platformdirs.user_log_dir(_NAME, appauthor=False))
