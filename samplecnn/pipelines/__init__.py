"""The jobs, spread over cores and machines: the only place where Ray lives."""
