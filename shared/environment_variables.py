"""The environment variables that are read: every path and every address can be set by one, for studios and farms.

Beside those that are named here, ``PATH`` and the like mean what they mean everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable. ``default`` is what holds without it, in words; ``is_own`` says that no other program reads it."""

    name: str
    what: str
    default: str
    is_own: bool = True


CONFIG, DATA, LOGS = "LATENTMAN_CONFIG", "LATENTMAN_DATA", "LATENTMAN_LOGS"
JOBS, MODELS, LORAS, RESULTS, BACKEND = (
    "LATENTMAN_JOBS",
    "LATENTMAN_MODELS",
    "LATENTMAN_LORAS",
    "LATENTMAN_RESULTS",
    "LATENTMAN_BACKEND",
)
PYTHON, KIMODO, SMPL, LOG_LEVEL = "LATENTMAN_PYTHON", "LATENTMAN_KIMODO", "LATENTMAN_SMPL", "LATENTMAN_LOG_LEVEL"
PACKAGE_INDEX, TORCH_INDEX, PYTHON_MIRROR = "LATENTMAN_PACKAGE_INDEX", "LATENTMAN_TORCH_INDEX", "LATENTMAN_PYTHON_MIRROR"

VARIABLES = (
    Variable(CONFIG, "folder of keys, paired machines and settings files of models", "the platform's folder for settings"),
    Variable(DATA, "folder of everything below that has no variable of its own", "the platform's folder for data"),
    Variable(JOBS, "folder of the job store; `--jobs` comes first", "`jobs` in the data folder"),
    Variable(MODELS, "folder of the models that the library gets", "`models` in the data folder"),
    Variable(LORAS, "folders in which LoRAs of a prompt are looked for first, parted as in `PATH`", "none"),
    Variable(RESULTS, "folder of the frames of files that were never saved", "`results` in the data folder"),
    Variable(
        BACKEND,
        "folder of *Set Up*'s backend; the preferences and `--folder` come first",
        "`backend` in the data folder",
    ),
    Variable(LOGS, "folder of the logs", "the platform's folder for logs"),
    Variable(LOG_LEVEL, "how much is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR`", "`INFO`"),
    Variable(PYTHON, "the Python that has the backend's packages; the preferences come first", "what *Set Up* has made"),
    Variable(
        KIMODO,
        "Kimodo's `kimodo_gen`, or its environment's folder; the preferences come first",
        "`kimodo_gen` in `PATH`",
    ),
    Variable(SMPL, "your own SMPL file; the preferences come first", "none"),
    Variable(PACKAGE_INDEX, "the package index for *Set Up*; the preferences come first", "https://pypi.org/simple"),
    Variable(TORCH_INDEX, "PyTorch's index for *Set Up*; the preferences come first", "https://download.pytorch.org/whl"),
    Variable(
        PYTHON_MIRROR,
        "a mirror of Pythons for *Set Up*; the preferences come first",
        "python-build-standalone on GitHub",
    ),
    Variable("UV_DEFAULT_INDEX", "the package index, after ours", "none", is_own=False),
    Variable("UV_INDEX_URL", "the package index, after that", "none", is_own=False),
    Variable("PIP_INDEX_URL", "the package index, after that", "none", is_own=False),
    Variable("UV_PYTHON_INSTALL_MIRROR", "the mirror of Pythons, after ours", "none", is_own=False),
    Variable("SSL_CERT_FILE", "certificates that are trusted", "the system's", is_own=False),
    Variable("SSL_CERT_DIR", "the same as a folder", "the system's", is_own=False),
    Variable("HTTP_PROXY", "a proxy; the preferences come first", "none", is_own=False),
    Variable("HTTPS_PROXY", "the same", "none", is_own=False),
    Variable("ALL_PROXY", "a proxy for the model hub, after these", "none", is_own=False),
    Variable("NO_PROXY", "hosts that are asked without a proxy", "none", is_own=False),
    Variable("HF_ENDPOINT", "the model hub; the preferences come first", "https://huggingface.co", is_own=False),
    Variable("HF_HOME", "folder of the hub's cache", "`~/.cache/huggingface`", is_own=False),
    Variable("HF_HUB_CACHE", "the same, and nothing else of the hub's", "`hub` in `HF_HOME`", is_own=False),
    Variable("HF_HUB_ETAG_TIMEOUT", "seconds that the hub may take to answer", "10", is_own=False),
    Variable("HF_HUB_DOWNLOAD_TIMEOUT", "seconds without a byte of a download", "10", is_own=False),
    Variable("HF_HUB_OFFLINE", "`1`: nothing is fetched from the hub", "unset", is_own=False),
)
