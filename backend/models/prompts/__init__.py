"""Prompts as people type them: their syntax (``parsing``), the files that they name (``named_loras``), and their embeddings
(``encoding``)."""
