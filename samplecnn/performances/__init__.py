"""Music performed well or badly on purpose: scores, a model of playing quality, a piano, whole graded corpora."""
