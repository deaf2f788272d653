"""From a student to what runs elsewhere: ONNX, torch.export, int8, plain source, a card."""
