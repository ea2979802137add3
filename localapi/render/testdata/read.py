"""Reads files as other programs do: each argument is FORMAT=PATH; prints what it read as JSON, or why not."""

import configparser
import json
import sys


def ini(path):
    p = configparser.ConfigParser(interpolation=None)
    p.optionxform = str
    with open(path, encoding="utf-8") as f:
        p.read_file(f)
    return {name: dict(p[name]) for name in p.sections()}


def toml(path):
    import tomllib

    with open(path, "rb") as f:
        return tomllib.load(f)


def yaml(path):
    import yaml

    with open(path, encoding="utf-8") as f:
        return yaml.safe_load(f)


def plain(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


out = []
for arg in sys.argv[1:]:
    kind, path = arg.split("=", 1)
    try:
        out.append({"read": {"ini": ini, "toml": toml, "yaml": yaml, "json": plain}[kind](path)})
    except ImportError as e:
        out.append({"missing": str(e)})
    except Exception as e:  # a test prints it
        out.append({"error": f"{kind}: {e}"})
json.dump(out, sys.stdout)
