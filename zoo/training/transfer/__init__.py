"""Methods that adapt pretrained weights to a new task: LP-FT, WiSE-FT, L2-SP, Auto-RGN, batch-norm adaptation."""
