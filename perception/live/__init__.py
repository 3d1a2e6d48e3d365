"""Recording real cameras over ROS 2."""
