"""What the window's test and the programs that it needs beside it both know; imports nothing."""

from __future__ import annotations

#: an entry of the catalogue of models whose size nobody knows beforehand, and the token that opens it
NAME, TOKEN = "sd15-hyper", "hf_window"
#: parts that begin with nothing but the zip, and are run alone, with the packages of *Set Up* on an index on loopback
FIRST_CLIP, SET_UP = "first-clip", "set-up"
ALONE = (FIRST_CLIP, SET_UP)
