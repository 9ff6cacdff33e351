"""Print the project's dependencies, with those of the extras that are named, one a line, for pip.

python3 dependencies.py pyproject.toml [EXTRA ...]
"""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print("\n".join(sum((extras[name] for name in sys.argv[2:]), project["dependencies"])))
