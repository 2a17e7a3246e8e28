"""An inspector of one camera's frames. Its parameters are the launch arguments.

ros2 launch shopfloor inspector.launch.py --show-args
ros2 launch shopfloor inspector.launch.py camera:=camera model:=surface_nano/1
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("inspector")
