"""Settings chosen by measurements on this machine: precision, workers, batch size; profiles of a step."""
