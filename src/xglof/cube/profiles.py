"""A user's own archive, read from a TOML file: the fields of a :class:`~xglof.cube.products.Provider`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xglof.cube.products import Product, Provider
from xglof.errors import CatalogError


def read_profile(path: str | Path) -> Provider:
    """The provider that a TOML file describes.

    Parameters
    ----------
    path
        A file with the keys of :class:`~xglof.cube.products.Provider`; ``[environment]`` is a table,
        ``[[products]]`` are tables with the keys of :class:`~xglof.cube.products.Product`. A ``url`` that is
        a path starts from the file's folder.

    Raises
    ------
    CatalogError
        The file cannot be read, or has an unknown key, lacks one, or holds a wrong value.
    """
    path = Path(path).expanduser()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(
            f"{path} cannot be read as the profile of an archive ({type(error).__name__}: {error}); expected "
            "a TOML file with name, url and [[products]]"
        ) from error
    _check_keys(content, Provider, str(path))
    tables = content["products"]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise CatalogError(f"{path}: products must be tables; write [[products]] over each of them")
    for number, table in enumerate(tables, 1):
        _check_keys(table, Product, f"{path}, product {number}")
    try:
        url = _from_folder(content["url"], path)
        credentials = content.get("credentials", ())
        lists = {"credentials": tuple(credentials) if isinstance(credentials, list) else credentials}
        products = tuple(Product(**table) for table in tables)
        return Provider(**content | lists | {"url": url, "products": products})
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from error


def _check_keys(table: Mapping[str, Any], kind: type, where: str) -> None:
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise CatalogError(f"{where}: key {unknown[0]!r} is unknown; expected {', '.join(known)}")
    absent = [key for key, needed in known.items() if needed and key not in table]
    if absent:
        raise CatalogError(f"{where}: key {absent[0]!r} is absent; expected {', '.join(known)}")


def _from_folder(url: object, profile: Path) -> object:
    if not isinstance(url, str) or not url or urlsplit(url).scheme in ("http", "https"):
        return url
    return str((profile.parent / Path(url).expanduser()).resolve())
