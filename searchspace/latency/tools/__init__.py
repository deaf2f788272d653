"""Tools that time ONNX files on a device: one file a tool, registered by its decorator."""
