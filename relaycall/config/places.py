"""The places that settings come from: arguments, the environment, and files of three kinds."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relaycall.config.entries import HELP, TYPES, Given, convert, wrong
from relaycall.errors import ConfigError, ExtraMissing
from relaycall.store.opening import PASSPHRASE

MAX_FILE = 1 << 20  # bytes
PREFIX = "RELAYCALL_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
_VARIABLES = {f"{PREFIX}{name.upper()}": name for name in TYPES if name != "endpoints"}
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def user_file() -> Path:
    """The file that is read if it is there: `config.toml` in the user's config folder for relaycall."""
    import platformdirs

    return platformdirs.user_config_path("relaycall", appauthor=False) / "config.toml"


def from_arguments(given: Mapping[str, Any]) -> list[Given]:
    """Those that are not None; `relays` is a sequence of URIs."""
    found = []
    for name, value in given.items():
        if value is not None:
            if name == "relays" and isinstance(value, list | tuple):
                value = _uris(value)
            found.append(Given(name, value, name, "argument"))
    return found


def from_environment(environ: Mapping[str, str]) -> list[Given]:
    """The RELAYCALL_* variables that are not empty. Raises ConfigError for one that is not known."""
    found = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in (PASSPHRASE, FILE_VARIABLE) or not environ[variable]:
            continue
        if variable not in _VARIABLES:
            raise ConfigError(f"The environment variable {variable} is not known.", HELP)
        name = _VARIABLES[variable]
        value: Any = environ[variable]
        if name == "relays":
            value = _uris(value.replace(",", " ").split())
        elif TYPES[name] is bool:
            value = _SWITCH.get(value.lower(), value)
        found.append(Given(name, value, variable, "environment"))
    return found


def _uris(uris: list[Any] | tuple[Any, ...]) -> list[dict[str, Any]]:
    """A plain list of URIs as entries."""
    return [{"urls": uri} for uri in uris]


def from_file(path: Path) -> list[Given]:
    """The settings of a file, whose ending says of what kind it is.

    Raises:
        ConfigError: it cannot be read, is not of that kind, or has a key that is not known.
        ExtraMissing: it is YAML, and PyYAML is not installed.
    """
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise ConfigError(f"The configuration file {path} has an unknown ending.", "Name it .toml, .json or .yaml.")
    parse, shape = _KINDS[kind]
    return list(_entries(parse(_read(path), path), shape, "", f"file {path}"))


def _entries(data: Any, shape: Mapping[str, Any], key: str, source: str) -> Iterator[Given]:
    """The settings in a table. `shape` gives for each key the setting, or the shape of the table that it holds."""
    table = convert(data, dict[str, Any], key or "at the top", source)
    for name, value in table.items():
        below = f"{key}.{name}" if key else name
        if name not in shape:
            raise wrong(below, source, "is not known")
        if isinstance(shape[name], str):
            yield Given(shape[name], value, below, source)
        else:
            yield from _entries(value, shape[name], below, source)


def _read(path: Path) -> str:
    problem = "cannot be read"
    try:
        found = path.expanduser()
        if not found.exists():
            problem = "does not exist"
        elif not found.is_file():  # a pipe may hang
            problem = "is not a regular file"
        else:
            with found.open("rb") as file:
                data = file.read(MAX_FILE + 1)
            if len(data) <= MAX_FILE:
                return data.decode("utf-8-sig")
            problem = f"is larger than {MAX_FILE} bytes"
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except (OSError, RuntimeError, ValueError):
        pass
    raise ConfigError(f"The configuration file {path} {problem}.", "Correct it, or give another.")


def _malformed(path: Path, kind: str, line: int | None) -> ConfigError:
    where = f" at line {line}" if line else ""
    return ConfigError(f"The configuration file {path} is not {kind}{where}.", "Correct it, or give another.")


def _toml(text: str, path: Path) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = re.search(r"at line ([0-9]+)", str(error))
        line = int(found[1]) if found else None
    raise _malformed(path, "TOML", line)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
    raise _malformed(path, "JSON", line)


def _yaml(text: str, path: Path) -> Any:
    missing = False
    line = None
    try:
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        missing = True
    except Exception as error:  # a YAMLError, or what a constructor raises; both quote the text
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
    if missing:
        raise ExtraMissing(f"Reading {path} takes the extra yaml.", "Install it: pip install 'relaycall[yaml]'.")
    raise _malformed(path, "YAML", line)


# Each kind of file, and its keys: our own in TOML, and in the other two those that other programs use.
_KINDS: dict[str, tuple[Callable[[str, Path], Any], Mapping[str, Any]]] = {
    ".toml": (_toml, {name: name for name in TYPES}),
    ".json": (_json, {"callRtcConfig": {"forceTurn": "force_turn", "turnServers": "relays"}}),
    ".yaml": (_yaml, {"turn": "relays"}),
    ".yml": (_yaml, {"turn": "relays"}),
}
