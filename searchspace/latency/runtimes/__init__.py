"""What runs a network on a device: one file a runtime, registered by its decorator."""
