"""Print the project's dependencies, with the extras for tests, logs and documentation, one a line, for pip."""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print("\n".join([*project["dependencies"], *extras["test"], *extras["tensorboard"], *extras["docs"]]))
