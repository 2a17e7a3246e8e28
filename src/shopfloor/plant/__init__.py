"""The plant file, placement on hosts, process specs, the runner and the line manager.

Importing this package imports no feature and no ROS.
"""
