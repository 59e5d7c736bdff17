"""Methods that lead pretrained weights over to a new task: LP-FT, WiSE-FT, L2-SP, Auto-RGN, batch-norm adaptation."""
