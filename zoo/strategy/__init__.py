"""Which pretrained model to use, which parameters to train, and with which recipe."""
