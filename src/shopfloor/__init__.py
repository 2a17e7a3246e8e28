"""shopfloor: vision inspection, machine health and scheduling for factory lines on ROS 2."""

import os

__version__ = "0.1.0"

# Generated messages read it at import. Without it a wrong type in a field ends the process in a C
# assert or goes out as 0.0, and an overlong string goes out as it is.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
