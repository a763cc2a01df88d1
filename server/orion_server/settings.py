# SPDX-License-Identifier: Apache-2.0
"""Settings from flags, environment and an INI file, each value with where it came from.

A program lists its settings once; its flags, the check of its configuration and its documentation derive from that.
Precedence: flag, environment, file, default.
"""

from __future__ import annotations

import argparse
import configparser
import difflib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import OrionServerError


@dataclass(frozen=True)
class Setting:
    name: str  # the flag, too: --some-name
    help: str
    parse: Callable[[str, str], Any]  # the text, and what to call it in an error
    default: str | None = None  # as one would write it; None: see help
    section: str = ""  # of the file; with key
    key: str = ""
    environment: tuple[str, ...] = ()
    metavar: str = "VALUE"
    secret: bool = False  # never shown, and no flag: a command line is no place for it
    switch: bool = False  # the flag takes no value

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class Value:
    value: Any
    text: str | None
    origin: str


def add_flags(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if setting.secret:
            continue
        sources = [*setting.environment]
        if setting.key:
            sources.append(f"[{setting.section}] {setting.key}")
        text = setting.help
        if sources:
            text += f"; also {', '.join(sources)}"
        if setting.default:
            text += f" (default: {setting.default})"
        text = text.replace("%", "%%")
        if setting.switch:
            parser.add_argument(
                setting.flag, dest=setting.name, action="store_const", const="true", help=text
            )
        else:
            parser.add_argument(setting.flag, dest=setting.name, metavar=setting.metavar, help=text)


def read_file(
    path: Path, settings: Sequence[Setting], ignored: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Value]]:
    """The file's values by name of setting; OrionServerError names what is wrong with it, and where.

    ignored: "section.key" -> why it has no effect here (keys of other systems' files that are no mistakes). Those that
    the file has come second: for who wonders what became of them."""
    reader = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    try:
        with open(path, encoding="utf-8") as file:
            reader.read_file(file)
    except (OSError, UnicodeError, configparser.Error) as e:
        raise OrionServerError(f"cannot read {path}: {' '.join(str(e).split())}") from e
    known = {(s.section, s.key): s for s in settings if s.key}
    found: dict[str, str] = {}
    without_effect: dict[str, Value] = {}
    for section in reader.sections():
        for key, text in reader.items(section):
            setting = known.get((section, key))
            if setting is not None:
                found[setting.name] = text.strip().strip('"')
                if setting.secret and text and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise OrionServerError(
                        f"{path} holds [{section}] {key} and others may read it: chmod 600 {path}"
                    )
            elif why := ignored.get(f"{section}.{key}"):
                origin = f"{path}, without effect: {why}"
                without_effect[f"[{section}] {key}"] = Value(None, text, origin)
            else:
                near = difflib.get_close_matches(key, [k for _, k in known], 1)
                where = next((f"[{s}] {k}" for s, k in known if near and k == near[0]), "")
                hint = f"; did you mean {where}?" if where else ""
                raise OrionServerError(f"{path}: there is no setting [{section}] {key}{hint}")
    return found, without_effect


def resolve(
    settings: Sequence[Setting],
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    path: Path,
    *,
    required: bool = False,
    ignored: Mapping[str, str] | None = None,
) -> dict[str, Value]:
    """Every setting's value and origin, then what the file has beside them. required: a file that is not there is an
    error."""
    from_file: dict[str, str] = {}
    others: dict[str, Value] = {}
    if required or path.exists():
        from_file, others = read_file(path, settings, ignored or {})
    return {s.name: _value(s, arguments, environment, path, from_file) for s in settings} | others


def _value(
    setting: Setting,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    path: Path,
    from_file: Mapping[str, str],
) -> Value:
    text: str | None = getattr(arguments, setting.name, None)
    if text is not None:
        return Value(setting.parse(text, setting.flag), text, f"flag {setting.flag}")
    for name in setting.environment:
        if environment.get(name):
            text = environment[name]
            return Value(setting.parse(text, name), text, f"environment {name}")
    if setting.name in from_file:
        text, where = from_file[setting.name], f"{path} [{setting.section}] {setting.key}"
        if text:  # "key =" is the same as no such line
            return Value(setting.parse(text, where), text, where)
    if setting.default is None:
        return Value(None, None, "default")
    return Value(setting.parse(setting.default, setting.name), setting.default, "default")


def explain(settings: Sequence[Setting], values: Mapping[str, Value], as_json: bool) -> str:
    """The table of --check-config."""
    rows = []
    for setting in settings:
        value = values[setting.name]
        shown: Any = value.value if not isinstance(value.value, os.PathLike) else str(value.value)
        if setting.secret:
            shown = "(set)" if value.value else ""
        rows.append(
            {"name": setting.name, "value": shown, "origin": value.origin, "help": setting.help}
        )
    for name in values.keys() - {setting.name for setting in settings}:
        other = values[name]
        rows.append({"name": name, "value": other.text, "origin": other.origin, "help": ""})
    if as_json:
        return json.dumps({"schema": 1, "settings": rows}, indent=2, default=str)
    cells = [
        ("setting", "value", "from"),
        *(
            (str(r["name"]), "-" if r["value"] in (None, "") else str(r["value"]), str(r["origin"]))
            for r in rows
        ),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in cells)


# --- what texts mean


def text(value: str, _name: str) -> str:
    return value


def whole(least: int, most: int) -> Callable[[str, str], int]:
    def parse(value: str, name: str) -> int:
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise OrionServerError(f"{name}={value!r} is no whole number from {least} to {most}")
        return int(value)

    return parse


def seconds(least: float, most: float) -> Callable[[str, str], float]:
    def parse(value: str, name: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise OrionServerError(
                f"{name}={value!r} is no number of seconds from {least:g} to {most:g}"
            )
        return number

    return parse


def switch(value: str, name: str) -> bool:
    states = configparser.ConfigParser.BOOLEAN_STATES
    if value.lower() not in states:
        raise OrionServerError(f"{name}={value!r} is neither true nor false")
    return states[value.lower()]


def choice(*allowed: str) -> Callable[[str, str], str]:
    def parse(value: str, name: str) -> str:
        if value.lower() not in allowed:
            known = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
            raise OrionServerError(f"{name}={value!r} is not known: choose {known}")
        return value.lower()

    return parse


def folder(value: str, _name: str) -> Path:
    return Path(value).expanduser()


def host_port(default_port: int) -> Callable[[str, str], tuple[str, int]]:
    """HOST, HOST:PORT, [V6]:PORT."""

    def parse(value: str, name: str) -> tuple[str, int]:
        host, colon, port = value.rpartition(":")
        if not colon or (value.count(":") > 1 and not value.startswith("[")) or value.endswith("]"):
            host, port = value, str(default_port)
        host = host.strip("[]")
        if not host:
            raise OrionServerError(f"{name}={value!r} is no address: write HOST:PORT")
        return host, whole(0, 65535)(port, name)

    return parse
