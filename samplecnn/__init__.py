"""Grade the quality of playing from the waveform: recordings in, one grade each out."""

__version__ = "0.1.0"
