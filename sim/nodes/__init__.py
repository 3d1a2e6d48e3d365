"""ROS 2 nodes that need MuJoCo: the simulated robot."""
