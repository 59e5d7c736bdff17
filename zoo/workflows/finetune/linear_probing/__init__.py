"""The linear probe: fitting a linear head, the first phase of LP-FT, and the comparison with fine-tuning."""
