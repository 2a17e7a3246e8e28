"""The thermal watchdog of this host. Its parameters are the launch arguments.

ros2 launch shopfloor thermal.launch.py --show-args
ros2 launch shopfloor thermal.launch.py required_zones:=[tj-thermal]
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("thermal_watchdog")
