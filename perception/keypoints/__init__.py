"""2D keypoints from outside, a file or an ONNX detector, as a reprojection term of the fit."""
