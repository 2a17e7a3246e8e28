"""The bridge to a PLC. Its parameters are the launch arguments.

ros2 launch shopfloor plc.launch.py --show-args
ros2 launch shopfloor plc.launch.py mapping:=/etc/shopfloor/plc1.yaml
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("plc_bridge")
