"""One camera. Its parameters are the launch arguments.

ros2 launch shopfloor camera.launch.py --show-args
ros2 launch shopfloor camera.launch.py source:=v4l2 address:=/dev/video0
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("camera")
