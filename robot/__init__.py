"""Robot: ONNX inference, safety, ROS 2 nodes, recording and replay; no torch, no MuJoCo."""
