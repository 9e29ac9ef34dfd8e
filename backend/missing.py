"""What to install when a package is missing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

#: packages of the extra ``backend``: what is imported -> what is installed
BACKEND = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "peft": "peft",
    "huggingface_hub": "huggingface_hub",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "smplx": "smplx",
    "PIL": "pillow",
    "tqdm": "tqdm",
    "filelock": "filelock",
}
#: what every part needs
CORE = {"numpy": "numpy", "msgspec": "msgspec", "zmq": "pyzmq", "platformdirs": "platformdirs"}
#: what the service cannot begin without, in the order in which it is told of them; the other packages are for some models only
SERVING = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "scipy", "PIL", "tqdm", "filelock")
INSTALL_BACKEND = "pip install 'latentman[backend]'"


def explain_missing(module: str) -> str:
    """The sentence for a module that cannot be found in this Python."""
    name = module.partition(".")[0]
    said = f"{BACKEND.get(name) or CORE.get(name) or name} is not installed in this Python; install"
    if name in BACKEND:
        return f"{said} the backend's packages: {INSTALL_BACKEND}"
    if name in CORE:
        return f"{said} LatentMan with what it needs: pip install latentman"
    if name == "ray":
        return f"{said} it with pip install 'latentman[ray]', or leave out --workers and --ray."
    if name == "bpy":
        return f"{said} Blender as a package: pip install 'latentman[blender]'"
    return f"{said} it with pip, or leave out what needs it."


def require(modules: Iterable[str] = SERVING) -> None:
    """``ModuleNotFoundError`` for the first of some top-level modules that this Python has not; imports none of them."""
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
