"""The hub's library reads its environment variables when it is imported, and fails then; these are looked at before. Free of it."""

from __future__ import annotations

from collections.abc import MutableMapping

from ...shared.addresses import hide_credentials, is_web_address

_BEGINNINGS = ("HF_", "HUGGINGFACE_")
#: those that are whole numbers of seconds
_NUMBERS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")


def drop_empty(environment: MutableMapping[str, str]) -> None:
    """Take away variables that are set to nothing: an empty folder would be the one that the program was started in."""
    for name in [name for name, value in environment.items() if name.startswith(_BEGINNINGS) and not value.strip()]:
        del environment[name]


def find_address_problem(endpoint: str) -> str:
    """What is wrong with a hub's address, a sentence without its full stop; empty for nothing."""
    if is_web_address(endpoint):
        return ""
    return (
        f"the hub's address {hide_credentials(endpoint)} (HF_ENDPOINT) cannot be asked; write it out, beginning with https://, and "
        "odd letters of a password as numbers, such as %23 for #"
    )


def find_problem(environment: MutableMapping[str, str]) -> str:
    """Why the hub's library could not be imported, a sentence; empty for nothing."""
    endpoint = environment.get("HF_ENDPOINT", "").strip()
    problem = find_address_problem(endpoint) if endpoint else ""
    if problem:
        return f"{problem[:1].upper()}{problem[1:]}."
    for name in _NUMBERS:
        value = environment.get(name, "10")
        if not value.strip().isdecimal():
            return f"{name} is '{value}', which is no number of seconds; write a whole number, or unset it."
    return ""
