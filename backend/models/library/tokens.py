"""Tokens for gated and private repositories: in the system's keyring where the package ``keyring`` is there and works, else in a
file that its owner alone can read. Each belongs to one hub, is never shown, and is sent to that hub alone."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ....shared import logs
from ....shared.addresses import hide_credentials
from ....shared.disk_errors import explain_disk_error
from ....shared.endpoint import is_loopback
from ....shared.files import make_private_folder, read_file, write_atomically
from ....shared.folders import CONFIG_ENVIRONMENT, config_folder
from ....shared.library import MAX_TOKEN
from ....shared.pasted_paths import unquote_text
from ....shared.shot import ShotError

logger = logs.get_logger(__name__)
SERVICE = "latentman"
FILE = "tokens.json"
MAX_FILE = 64 << 10
#: seconds that a keyring may take to answer; a locked one may wait for somebody who is not there
PATIENCE = 10.0
#: what the file holds for a hub whose token is in the keyring
_IN_KEYRING = "keyring"


def find_file() -> Path:
    """The file of the tokens, or of where they are."""
    return config_folder() / FILE


def find_host(endpoint: str) -> str:
    """The hub that a token is for: host and port of its address; empty for an address that a token must not be sent to, since
    others could read it on the way."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2].lower()
    if parts.scheme == "https":
        return host
    return host if parts.scheme == "http" and parts.hostname and is_loopback(f"tcp://{parts.hostname}:1") else ""


def check_token(token: str) -> str:
    """A token without the blanks around it. Raises ``ShotError`` for what is none."""
    token = unquote_text(token)
    if not token or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ShotError("token", "That is no token; copy it whole from the hub's page of access tokens.")
    return token


def save_token(token: str, endpoint: str) -> str:
    """Keep a token for a hub; returns where it is, in words. Raises ``ShotError``."""
    token, host = check_token(token), find_host(endpoint)
    if not host:
        raise ShotError(
            "token",
            f"A token would be readable on its way to {hide_credentials(endpoint)}; use a hub whose address begins with https://.",
        )
    in_keyring = _ask_keyring(lambda keyring: _store(keyring, host, token)) is True
    _write({**_read(), host: {"in": _IN_KEYRING} if in_keyring else {"token": token}})
    return "the system's keyring" if in_keyring else f"{find_file()}, which only you can read"


def forget_token(endpoint: str) -> bool:
    """Remove the token of a hub; whether there was one. Raises ``ShotError``."""
    host, known = find_host(endpoint), _read()
    if host not in known:
        return False
    if known[host].get("in") == _IN_KEYRING:
        _ask_keyring(lambda keyring: keyring.delete_password(SERVICE, host))
    _write({name: value for name, value in known.items() if name != host})
    return True


def find_token(endpoint: str) -> str | None:
    """The token for a hub, None where there is none."""
    host = find_host(endpoint)
    kept = _read().get(host) if host else None
    if kept is None:
        return None
    if kept.get("in") == _IN_KEYRING:
        found = _ask_keyring(lambda keyring: keyring.get_password(SERVICE, host))
        return found if isinstance(found, str) and found else None
    return kept.get("token") or None


def _store(keyring: Any, host: str, token: str) -> bool:
    keyring.set_password(SERVICE, host, token)
    return bool(keyring.get_password(SERVICE, host) == token)


def _ask_keyring(ask: Callable[[Any], Any]) -> Any:
    """What a keyring answers; None where there is none, or it does not work."""
    try:
        keyring: Any = importlib.import_module("keyring")
    except Exception:  # whatever an installation of it raises
        return None
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(ask(keyring))
        except Exception as error:  # none is running, locked, refused
            logger.info("The system's keyring cannot be used (%s)", type(error).__name__)

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answer[0] if answer else None


def _read() -> dict[str, dict[str, str]]:
    try:
        found = json.loads(read_file(find_file(), MAX_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {host: value for host, value in found.items() if isinstance(value, dict)}


def _write(tokens: dict[str, dict[str, str]]) -> None:
    path = find_file()
    try:
        make_private_folder(path.parent)
        write_atomically(path, json.dumps(tokens).encode(), private=True)
    except OSError as error:
        elsewhere = f"name another folder in {CONFIG_ENVIRONMENT}"
        raise ShotError("disk", f"The token is not kept: {explain_disk_error(error, path, 'written', elsewhere)}") from error
