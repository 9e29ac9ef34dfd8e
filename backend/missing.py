"""What to install when a package is missing."""

from __future__ import annotations

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
INSTALL_BACKEND = "pip install 'latentman[backend]'"


def explain_missing(module: str) -> str:
    """The sentence for a module that cannot be found in this Python."""
    name = module.partition(".")[0]
    said = f"{BACKEND.get(name) or CORE.get(name) or name} is not installed in this Python; install"
    if name in BACKEND:
        return f"{said} the backend's packages: {INSTALL_BACKEND}"
    if name in CORE:
        return f"{said} LatentMan with what it needs: pip install latentman"
    if name == "bpy":
        return f"{said} Blender as a package: pip install 'latentman[blender]'"
    return f"{said} it with pip, or leave out what needs it."
