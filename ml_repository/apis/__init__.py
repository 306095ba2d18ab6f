"""The APIs of the ML repository: MLR_* of TS 29.482 6.2, and the extension for the bytes of models."""
