"""What the window's test and the programs that it needs beside it both know; imports nothing."""

from __future__ import annotations

#: an entry of the catalogue of models whose size nobody knows beforehand, and the token that opens it
NAME, TOKEN = "sd15-hyper", "hf_window"
#: parts that begin with nothing but the zip, with the packages of *Set Up* on an index on loopback
FIRST_CLIP, SET_UP = "first-clip", "set-up"
FROM_ZIP = (FIRST_CLIP, SET_UP)
#: the part that quits Blender while frames are made, after which the backend whose process number is in the file has to be gone
QUIT, BACKEND_FILE = "quit", "backend.pid"
#: the part that wants a folder of tiny models, and the environment variable with the folder's path
STUDIO, STUDIO_VARIABLE = "studio", "LATENTMAN_WINDOW_STUDIO"
#: what is in it: a motion module for the starter, a FLUX.1 with its ControlNet and a LoRA, a Wan VACE
MODULE, TRANSFORMER, CONTROL = "tiny-motion-module.safetensors", "tiny-flux", "tiny-flux-depth"
LORA, CLIPS = "tiny-flux-lora.safetensors", "tiny-wan-vace"
#: the word that the LoRA was trained with
LORA_WORD = "tinyword"
