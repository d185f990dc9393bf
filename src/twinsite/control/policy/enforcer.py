"""Decides by the rules whether a caller may do something, with what the operator's policy file says of them.

The file is YAML, a mapping of names of rules to checks in the language of oslo.policy. It is read at the start, where a
wrong one is refused, and again whenever it has changed: a wrong one then changes nothing and is named in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml
from oslo_config import cfg
from oslo_policy import policy

from twinsite.control.policy.rules import list_rules
from twinsite.errors import ConfigurationError

FILE_BYTES_MAX = 1024 * 1024
"""A larger policy file is none."""

_REMOTE_CHECKS = ("http:", "https:")
"""Checks that would ask another server about each request, while every other request waits."""

_log = structlog.get_logger(__name__)

Stamp = tuple[int, int, int]


class Policy:
    """The rules in force."""

    def __init__(self, path: Path | None = None) -> None:
        """Take the defaults, and what the file at `path` overrides if there is one.

        Raises `ConfigurationError` for a file that cannot work.
        """
        self._path = path
        self._stamp = _stamp(path)
        self._enforcer = _compile(path)

    def allows(self, rule: str, credentials: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
        """Say whether a rule allows who has these credentials to do it to this target. An unknown rule never does."""
        self._reload_when_changed()
        return bool(self._enforcer.enforce(rule, dict(target), dict(credentials)))

    def _reload_when_changed(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._enforcer = _compile(self._path)
        except ConfigurationError as error:
            _log.error("the policy file cannot be used; the rules stay as they were", error=str(error))
        else:
            _log.warning("the policy file is in force", path=str(self._path))


def _stamp(path: Path | None) -> Stamp | None:
    """Return what changes whenever a file does, None when there is none."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _compile(path: Path | None) -> policy.Enforcer:
    overrides = _read(path) if path is not None and path.exists() else {}
    defaults = {rule.name: rule for rule in list_rules()}
    rules = {name: rule.check for name, rule in defaults.items()}
    for name, text in overrides.items():
        if name not in defaults and ":" in name:
            # A name without a colon is a building block of the operator's own.
            raise ConfigurationError(f"{path}: there is no rule {name!r}; docs/policy.yaml lists them all")
        rules[name] = _parse(path, name, text)
    configuration = cfg.ConfigOpts()
    configuration([], project="twinsite", default_config_files=[])
    enforcer = policy.Enforcer(configuration, use_conf=False)
    enforcer.set_rules(rules, overwrite=True, use_conf=False)
    try:
        enforcer.check_rules(raise_on_violation=True)
    except policy.InvalidDefinitionError:
        names = ", ".join(overrides)
        raise ConfigurationError(
            f"{path}: one of {names} refers to a rule that does not exist, or in the end to itself"
        ) from None
    return enforcer


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        decoded = yaml.safe_load(content.decode()) if len(content) <= FILE_BYTES_MAX else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML: {error}") from error
    if decoded is None and len(content) <= FILE_BYTES_MAX:
        return {}
    if not isinstance(decoded, dict) or not all(isinstance(key, str) for key in decoded):
        raise ConfigurationError(f"{path} is not a mapping of the names of rules to checks")
    return decoded


def _parse(path: Path | None, name: str, text: object) -> Any:
    if not isinstance(text, str):
        raise ConfigurationError(f"{path}: the check of {name!r} is not a text; write it in quotes")
    if any(kind in text for kind in _REMOTE_CHECKS):
        raise ConfigurationError(f"{path}: the check of {name!r} asks another server, which is not offered")
    check = policy.RuleDefault(name, text).check
    # The parser turns what it does not understand into the check that always fails, and only logs why.
    if "!" in str(check) and "!" not in text:
        raise ConfigurationError(f"{path}: the check of {name!r} cannot be understood: {text!r}")
    return check
