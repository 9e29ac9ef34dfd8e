"""The pages under ``docs/`` and the site that is made of them."""
