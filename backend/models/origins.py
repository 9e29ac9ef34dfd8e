"""Where a value of a model's profile comes from, as people read it."""

PRESET, CONFIGURATION, FILE, NAME, USUAL = "preset", "configuration", "file", "name", "family's usual"
