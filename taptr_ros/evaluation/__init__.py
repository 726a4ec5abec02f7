"""TAP-Vid metrics, datasets, evaluation and benchmark."""
