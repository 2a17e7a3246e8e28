"""Set-up, build and test of the workspace: what `./run` calls.

Standard library only, Python 3.10 or newer: it runs before anything is installed.

- `layout`       where things lie
- `lock`         the pinned packages of `requirements.lock`
- `host`         what the machine must have: a C++ compiler, venv, Python headers
- `ros`          which ROS 2 is used: a sourced one, or the wheels in `.venv`
- `wheels`       the repair of the ROS 2 wheels after their installation
- `environment`  the variables that a process of the workspace needs
- `stamps`       whether set-up and build are still what the files ask for
- `progress`     one line per stage, logs
- `setup`        makes `.venv` and builds the packages
- `checks`       linters and tests
- `cli`          the verbs
"""
