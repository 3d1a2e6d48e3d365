"""ROS 2 nodes of the robot: thin shells over pure functions, one process each."""
