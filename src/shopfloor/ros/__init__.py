"""What every node shares: base node, parameters, interfaces, images, workers, diagnostics."""
